# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""What the images of a recording say about its poses, its K, its clock and its scale, in figures and in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dvmvs_core.evaluation.trajectory.camera_fit import MIN_STRETCHES as MIN_STRETCHES_FOR_CAMERA
from dvmvs_core.evaluation.trajectory.camera_fit import CameraFit, fit_camera
from dvmvs_core.evaluation.trajectory.image_tracks import Tracks
from dvmvs_core.evaluation.trajectory.pose_convention import find_convention
from dvmvs_core.evaluation.trajectory.pose_fit import PoseFit, fit_poses
from dvmvs_core.evaluation.trajectory.pose_scale import PoseScale, find_scale
from dvmvs_core.evaluation.trajectory.pose_track import LONGEST_GAP_S, PoseTrack
from dvmvs_core.evaluation.trajectory.view_pairs import ViewPairs, neighbours, wide_pairs

LARGEST_OFFSET_S = 0.012
"""Offset between images and poses above which it is said."""

MAX_OFFSET_SPREAD_S = 0.01
"""Standard error of the offset above which it is not known."""

LARGEST_FOCAL_ERROR = 0.025
"""Relative error of the focal length above which it is said."""

LARGEST_FOCAL_ERROR_BETWEEN_POSES = 0.08
"""The same where the clock is wrong, too: poses are then interpolated, and between them no camera moves evenly."""

MAX_FOCAL_SPREAD = 0.0125
"""Standard error of the focal length above which it is not known."""

MAX_ROTATION_SPREAD_DEG = 1.0
"""Standard error of the camera's rotation on its mounting above which it is not known."""

EXPLAINED = 0.85
"""A better offset, focal length, mounting or principal point must leave less than this share of the residual."""

LARGEST_RESIDUAL_PX = 1.5
"""Median distance of points from where the poses allow them, in images 480 pixels wide, above which it is said."""

MAX_SHARE_OF_MOTION = 0.25
"""The same as a share of the distance that points move in the image."""

STANDS_OUT = 5.0
"""An image is unexplained if its own distance is larger than `LARGEST_RESIDUAL_PX` and so many times the usual one."""

MAX_UNEXPLAINED = 0.02
"""Share of such images above which it is said."""

MIN_UNEXPLAINED = 2
"""Such images that must be there: a wrong pose shows in the pair before it and in the one after it."""

LARGEST_SCALE_ERROR = 0.1
"""Logarithm of the scale that noise explains; the interval of a wrong one lies beyond it."""

MAX_SCALE_RANGE = 1.3
"""Ratio of the ends of its interval above which the scale is not known."""

MIN_PARALLAX_PX = 3.0
"""Parallax below which nothing is known of how the camera changes its place."""

MIN_STRETCHES = 5
"""Independent stretches of a recording that a statement about all of it takes."""

MIN_PARALLAX_RAD = 0.015
MIN_DEPTHS = 40


DEPTH_UNITS = (5000, 10_000, 256, 100)
"""Units of depth in a metre other than 1000 that recordings have: TUM RGB-D and ICL-NUIM, RealSense, KITTI, and
centimetres."""


@dataclass(frozen=True)
class ImageAgreement:
    """How poses and images agree; distances are pixels of images 480 wide.

    Attributes:
        stretches: independent stretches of the recording that were compared.
        pairs: pairs of images in them.
        motion_px: median distance that points move in the image from one to the other.
        parallax_px: what of it is due to the camera's change of place.
        convention: how the poses must be read; None if as they are.
        recorded_px: median distance of points from where the poses allow them, as recorded.
        fit: the best shift of time and focal length, with poses read so.
        camera: the best mounting, principal point and focal length; None from too few stretches.
        without_camera_px: the residual with mounting and principal point as recorded, where `camera` explains more and
            `fit` is with it; None otherwise.
        scale: by sensor depth; None without it.
        scene_depth_m: median depth of triangulated points; None without parallax.
        followed: images that points were followed to from the one before.
        unexplained: positions of those of them whose motion the poses do not explain, the worst first.
    """

    stretches: int
    pairs: int
    motion_px: float
    parallax_px: float
    convention: str | None
    recorded_px: float
    fit: PoseFit
    camera: CameraFit | None
    without_camera_px: float | None
    scale: PoseScale | None
    scene_depth_m: float | None
    followed: int
    unexplained: tuple[int, ...]

    @property
    def camera_is_wrong(self) -> bool:
        """Whether the images agree with another mounting or principal point."""
        return self.without_camera_px is not None

    @property
    def has_offset(self) -> bool:
        """Whether images and poses have different clocks."""
        fit = self.fit
        if fit.offset_spread_s is None or self.is_unexplained or not self._explains(fit.without_offset_px):
            return False
        return abs(fit.offset_s) > max(LARGEST_OFFSET_S, 3 * fit.offset_spread_s)

    @property
    def has_wrong_focal(self) -> bool:
        """Whether another focal length explains the images better."""
        least = LARGEST_FOCAL_ERROR_BETWEEN_POSES if self.has_offset else LARGEST_FOCAL_ERROR
        wrong = abs(np.log(self.fit.focal_factor)) > max(least, 4 * self.fit.focal_spread)
        explains = self._explains(self.fit.without_focal_px) and not self.is_unexplained
        return wrong and explains and self.stretches >= MIN_STRETCHES

    @property
    def is_unexplained(self) -> bool:
        """Whether nothing that was tried makes the poses explain the images."""
        return self.fit.residual_px > max(LARGEST_RESIDUAL_PX, MAX_SHARE_OF_MOTION * self.motion_px)

    @property
    def knows_scale(self) -> bool:
        """Whether parallax and sensor depth tell the scale."""
        if self.scale is None or self.is_unexplained or not self._has_parallax or self.stretches < MIN_STRETCHES:
            return False
        low, high = self.scale.interval
        return high < MAX_SCALE_RANGE * low

    @property
    def _has_parallax(self) -> bool:
        return self.parallax_px > max(MIN_PARALLAX_PX, 2 * self.fit.residual_px)

    def _explains(self, before_px: float) -> bool:
        return self.fit.residual_px < EXPLAINED * before_px

    def findings(self, depth_range_m: tuple[float, float]) -> Iterable[str]:
        """Yield what is wrong.

        Args:
            depth_range_m: nearest and farthest depth that the network can tell.
        """
        fit = self.fit
        if self.convention is not None:
            yield (
                f"the poses are not what they should be, camera-to-world with x right, y down, z forward: the images"
                f" agree with them as {self.convention}, to {fit.residual_px:.2f} instead of {self.recorded_px:.2f}"
                " pixels. Convert them"
            )
        if self.has_offset:
            later = "later" if fit.offset_s > 0 else "earlier"
            yield (
                f"the poses fit the images best {abs(fit.offset_s) * 1000:.0f} ms {later} than their stamps say"
                f" (± {fit.offset_spread_s * 1000:.0f} ms): the clocks or the latencies of camera and tracking differ"
            )
        if self.camera_is_wrong:
            yield from self._camera_findings()
        if self.has_wrong_focal:
            yield (
                f"the focal length is wrong: {fit.focal_factor:.3f} times that of K (± {fit.focal_spread:.1%}) explains"
                f" the images to {fit.residual_px:.2f} instead of {fit.without_focal_px:.2f} pixels. Use the K of these"
                " images, at their size and after their rectification"
            )
        if self.is_unexplained:
            yield (
                f"the poses do not explain how the images move: points lie {fit.residual_px:.1f} pixels from where they"
                f" may be after moving {self.motion_px:.0f}, with no offset of time, focal length or convention of"
                " poses much less; check the mounting of the camera, K, the rectification and the poses' frames"
            )
        elif not (self.has_offset or self.has_wrong_focal or self.camera_is_wrong or self.convention) and len(
            self.unexplained
        ) >= max(MIN_UNEXPLAINED, MAX_UNEXPLAINED * self.followed):
            yield (
                f"at {len(self.unexplained)} of {self.followed} images ({some(self.unexplained)}) the pose does not"
                f" explain how the image moved, points lie {LARGEST_RESIDUAL_PX:g} pixels and more from where they may"
                " be, far more than elsewhere: images or poses were lost or stamped wrongly there, and depth is wrong"
                " there, too"
            )
        yield from self._scale_findings(depth_range_m)

    def _camera_findings(self) -> Iterable[str]:
        camera = self.camera
        turn, turn_spread, spread = (
            np.linalg.norm(part) for part in (camera.rotation_deg, camera.rotation_spread_deg, camera.centre_spread)
        )
        better = (
            f"the poses explain the images to {self.fit.residual_px:.2f} instead of {self.without_camera_px:.2f} pixels"
        )
        if camera.is_turned:
            x, y, z = camera.rotation_deg
            yield (
                f"the camera is not mounted as the poses say: turned by {turn:.1f}°"
                f" (± {turn_spread:.1f}°; {x:.1f}, {y:.1f}, {z:.1f}° about its x, y and z"
                f" axes), {better}. Multiply the transform to the camera by that rotation vector from the right"
            )
        if camera.has_wrong_centre:
            x, y = camera.centre
            yield (
                f"the principal point is wrong: {x:+.3f} fx and {y:+.3f} fy (± {spread:.3f}) from where K has it,"
                f" {better}. Use the K of these images, as they were cropped and rectified"
            )

    def _scale_findings(self, depth_range_m: tuple[float, float]) -> Iterable[str]:
        if self.knows_scale:
            low, high = self.scale.interval
            if max(np.log(low), -np.log(high)) > LARGEST_SCALE_ERROR:
                ratios = ((units, self.scale.scale * units / 1000) for units in DEPTH_UNITS)
                units = next((units for units, ratio in ratios if abs(np.log(ratio)) < LARGEST_SCALE_ERROR), None)
                why = "as of a tracker without scale. Divide"
                if units:
                    why = f"as if depth had {units} units a metre. Write {units} into depth_scale.txt, or else divide"
                yield (
                    f"the poses have another scale than the depth sensor: they are {self.scale.scale:.2f} times as"
                    f" large ({low:.2f} to {high:.2f}), {why} their positions by that"
                )
        elif (
            self.scene_depth_m is not None
            and self._has_parallax
            and not self.is_unexplained
            and not depth_range_m[0] < self.scene_depth_m < depth_range_m[1]
        ):
            yield (
                f"the scale of the poses is not plausible: the scene is {self.scene_depth_m:.2g} m away by them, and"
                f" the network tells {depth_range_m[0]:g} to {depth_range_m[1]:g} m"
            )

    def not_checked(self) -> Iterable[str]:
        """Yield what the images cannot tell, and why."""
        fit = self.fit
        if self.is_unexplained:
            yield "K, clocks and scale: nothing can be told from poses that do not explain the images"
            return
        if self.stretches < MIN_STRETCHES:
            yield f"K and scale: only {self.stretches} stretches of the recording have points to compare"
        elif fit.focal_spread > MAX_FOCAL_SPREAD and not self.has_wrong_focal:
            yield (
                f"the focal length to better than ± {2 * fit.focal_spread:.0%}: too little rotation, or poses too rough"
            )
        if fit.offset_spread_s is None:
            yield f"the clocks of images and poses: poses are more than {LONGEST_GAP_S:g} s apart"
        elif fit.offset_spread_s > MAX_OFFSET_SPREAD_S and not self.has_offset:
            yield (
                f"the clocks of images and poses to better than ± {2000 * fit.offset_spread_s:.0f} ms: the camera moves"
                " too evenly, or poses are too rough"
            )
        if self.camera is None:
            yield (
                f"mounting and principal point of the camera: only {self.stretches} stretches of the recording have"
                f" points to compare, and it takes {MIN_STRETCHES_FOR_CAMERA}"
            )
        elif (spread := float(np.linalg.norm(self.camera.rotation_spread_deg))) > MAX_ROTATION_SPREAD_DEG:
            yield (
                f"the mounting of the camera to better than ± {2 * spread:.0f}°: too little motion, or poses too rough"
            )
        if fit.residual_px > LARGEST_RESIDUAL_PX:
            yield (
                f"anything finer than {fit.residual_px:.1f} pixels, to which poses explain a motion of"
                f" {self.motion_px:.0f}: the poses are rough, or the mounting of the camera is not quite what they say"
            )
        if not self._has_parallax:
            yield (
                f"direction and scale of movement: points show only {self.parallax_px:.1f} pixels of parallax, next to"
                f" {fit.residual_px:.1f} of error"
            )
        elif self.scale is None:
            yield "the scale of the poses: there is no depth image to compare with, and images alone have no scale"
        elif not self.knows_scale:
            low, high = self.scale.interval
            yield f"the scale of the poses: by sensor depth it lies anywhere between {low:.2f} and {high:.2f}"


def compare_with_images(tracks: Tracks, recorded: PoseTrack) -> ImageAgreement | None:
    """Compare poses with points followed through the images.

    Args:
        tracks: points of the images.
        recorded: the poses as they are recorded.

    Returns:
        What was found; None where no pair of images can be compared.
    """
    pairs = wide_pairs(tracks, recorded)
    known = np.isfinite(pairs.relative_poses(recorded)[:, 0, 0])
    if not known.any():
        return None
    pairs = pairs.subset(known)
    recorded_px = float(np.nanmedian(pairs.distances_px(pairs.relative_poses(recorded))))
    convention = find_convention(pairs, recorded)
    poses = convention.applied(recorded)
    fit = fit_poses(pairs, poses)
    offset_s = fit.offset_s if abs(fit.offset_s) > LARGEST_OFFSET_S else 0.0
    camera = fit_camera(pairs, pairs.relative_poses(poses, offset_s), fit.focal_factor)
    without_camera_px = None
    if camera is not None and _explains_more(camera, fit):
        without_camera_px = fit.residual_px
        pairs, poses = camera.applied(pairs, poses)
        fit = fit_poses(pairs, poses)
    b_T_a = pairs.relative_poses(poses, fit.offset_s)
    depths = _triangulated(pairs, b_T_a, fit.focal_factor)
    followed, unexplained = _unexplained(neighbours(tracks, recorded), recorded)
    return ImageAgreement(
        stretches=len(np.unique(pairs.stretch)),
        pairs=len(pairs),
        motion_px=float(np.nanmedian(np.linalg.norm(pairs.rays[1] - pairs.rays[0], axis=-1))) * pairs.focal_px,
        parallax_px=float(np.nanmedian(pairs.parallax_px(b_T_a, fit.focal_factor))),
        convention=None if convention.as_recorded else str(convention),
        recorded_px=recorded_px,
        fit=fit,
        camera=camera,
        without_camera_px=without_camera_px,
        scale=find_scale(pairs, poses, fit.offset_s, fit.focal_factor),
        scene_depth_m=float(np.median(depths)) if len(depths) >= MIN_DEPTHS else None,
        followed=followed,
        unexplained=unexplained,
    )


def _explains_more(camera: CameraFit, fit: PoseFit) -> bool:
    """Whether a turned camera or another principal point explains what clock and focal length alone do not."""
    explains = camera.residual_px < min(EXPLAINED * fit.residual_px, LARGEST_RESIDUAL_PX)
    return explains and (camera.is_turned or camera.has_wrong_centre)


def some(positions: tuple[int, ...]) -> str:
    """Return positions as text, the first five of them."""
    return ", ".join(map(str, positions[:5])) + (" and more" if len(positions) > 5 else "")


def _unexplained(pairs: ViewPairs, poses: PoseTrack) -> tuple[int, tuple[int, ...]]:
    """How many images points were followed to, and those whose motion the poses do not explain, the worst first."""
    b_T_a = pairs.relative_poses(poses)
    known = np.isfinite(b_T_a[:, 0, 0])
    if not known.any():
        return 0, ()
    distances = np.nanmedian(pairs.subset(known).distances_px(b_T_a[known]), axis=1)
    positions = pairs.frame_index[known, 1]
    order = np.argsort(-distances)
    most = max(LARGEST_RESIDUAL_PX, STANDS_OUT * float(np.median(distances)))
    worst = positions[order[distances[order] > most]]
    return len(np.unique(positions)), tuple(dict.fromkeys(worst.tolist()))


def _triangulated(pairs: ViewPairs, b_T_a: np.ndarray, focal_factor: float) -> np.ndarray:
    """Depths of all points with parallax in the first images of their pairs, in units of the poses."""
    x_a, x_b = (np.concatenate((rays, np.ones_like(rays[..., :1])), -1) for rays in pairs.rays / focal_factor)
    ray = x_a @ b_T_a[:, :3, :3].transpose(0, 2, 1)
    # depth · ray + t is parallel to x_b, so depth · (x_b × ray) = -x_b × t.
    across, moved = np.cross(x_b, ray), -np.cross(x_b, np.broadcast_to(b_T_a[:, None, :3, 3], x_b.shape))
    square = (across**2).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = (across * moved).sum(-1) / square
        parallax = np.sqrt(square) / np.linalg.norm(x_b, axis=-1) / np.linalg.norm(ray, axis=-1)
    return depth[(parallax > MIN_PARALLAX_RAD) & (depth > 0)]
