# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Checks poses before depth is judged, since bad depth is usually a bad pose, and says in words what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np

from dvmvs_core.config import KeyframeConfig
from dvmvs_core.data.sequence import PoseItem, Sequence
from dvmvs_core.evaluation.image_tracks import Tracks, follow_points
from dvmvs_core.evaluation.pose_agreement import TimeOffset, estimate_time_offset, residuals_px
from dvmvs_core.evaluation.pose_track import PoseTrack
from dvmvs_core.keyframes import KeyframeBuffer, KeyframeDecision

ROTATION_ONLY_M = 0.02
"""Keyframes closer together than this show no parallax."""

MOST_ROTATION_ONLY = 0.3
"""Share of such keyframes above which it is said."""

JUMP_FACTOR, JUMP_M, JUMP_DEG = 5.0, 0.15, 15.0
"""A step is a jump if it is so many times longer than those around it, and longer than this."""

NEIGHBOURS = 5
"""Steps on either side of one that it is compared with."""

LARGEST_OFFSET_S = 0.012
"""Offset between images and poses above which it is said, if parts of the sequence agree about it."""

LARGEST_RESIDUAL_PX = 1.5
"""Median distance of points from where the poses allow them, at a width of 480 pixels, above which it is said."""

MOST_UNEXPLAINED = 0.02
"""Share of images whose own distance is larger than that, above which it is said."""

SCALE_RANGE = (0.85, 1.18)
"""Ratio of triangulated to sensor depth that noise explains."""

LEAST_PARALLAX_RAD = 0.015
FEWEST_DEPTHS = 40


@dataclass(frozen=True)
class TrajectoryCheck:
    """What poses and images say about the poses.

    Attributes:
        frames: images with a pose.
        duration_s: from the first to the last.
        keyframes: how many of them the keyframe rule takes.
        keyframe_rate_hz: how many it takes a second.
        baseline_m: median distance between consecutive keyframes.
        rotation_only_share: share of keyframes without parallax to the one before.
        jumps: positions of the images that come after a jump of the pose.
        followed: images that points were followed to from the one before.
        unexplained: positions of those of them whose motion the poses do not explain, the worst first.
        time_offset: offset between images and poses; None where the images cannot tell.
        scene_depth_m: median depth of points triangulated with the poses; None without parallax.
        scale: triangulated over sensor depth; None without sensor depth or parallax.
        findings: sentences about what is wrong; empty if nothing is.
    """

    frames: int
    duration_s: float
    keyframes: int
    keyframe_rate_hz: float
    baseline_m: float | None
    rotation_only_share: float
    jumps: tuple[int, ...]
    followed: int
    unexplained: tuple[int, ...]
    time_offset: TimeOffset | None
    scene_depth_m: float | None
    scale: float | None
    findings: tuple[str, ...]

    def summary(self) -> str:
        """Say in one sentence what was found of use, whether something is wrong or not."""
        said = [f"{self.keyframes} of {self.frames} frames become keyframes"]
        if self.baseline_m is not None:
            said.append(f"{self.baseline_m:.3f} m apart")
        if self.time_offset is not None:
            said.append(f"poses explain the images to {self.time_offset.residual_at_zero_px:.2f} pixels")
        if self.scale is not None:
            said.append(f"their scale is {self.scale:.2f} of the sensor's")
        return ", ".join(said) + ("" if self.findings else "; nothing is wrong with the poses")

    def to_dict(self) -> dict:
        """Return the figures as JSON has them."""
        return asdict(self)


def check_trajectory(
    sequence: Sequence,
    keyframes: KeyframeConfig,
    depth_range_m: tuple[float, float],
    advance: Callable[[int], None] | None = None,
) -> TrajectoryCheck:
    """Check the poses of a sequence against its images and its sensor depth.

    Args:
        sequence: what to check; its images are read once.
        keyframes: the keyframe rule.
        depth_range_m: nearest and farthest depth that the network can tell.
        advance: called with 1 after each frame.

    Raises:
        DataError: if the recording is broken.
    """
    return judge(list(sequence.poses()), follow_points(sequence, advance), keyframes, depth_range_m)


def judge(
    poses: list[PoseItem], tracks: Tracks | None, keyframes: KeyframeConfig, depth_range_m: tuple[float, float]
) -> TrajectoryCheck:
    """Check poses against points followed through the images; otherwise as `check_trajectory`."""
    track = PoseTrack(poses)
    duration_s = float(track.stamps_s[-1]) if len(track) else 0.0
    chosen, baselines = _keyframes(poses, keyframes)
    rotation_only = float((baselines < ROTATION_ONLY_M).mean()) if len(baselines) else 0.0
    offset = estimate_time_offset(tracks, track) if tracks else None
    shift_s = offset.offset_s if offset and _is_offset(offset) else 0.0
    followed, unexplained = _unexplained(tracks, track) if tracks else (0, ())
    depths, ratios = _triangulate(tracks, track, shift_s) if tracks else (np.empty(0), np.empty(0))
    figures = {
        "frames": len(track),
        "duration_s": duration_s,
        "keyframes": chosen,
        "keyframe_rate_hz": chosen / duration_s if duration_s else 0.0,
        "baseline_m": float(np.median(baselines)) if len(baselines) else None,
        "rotation_only_share": rotation_only,
        "jumps": _jumps(track),
        "followed": followed,
        "unexplained": unexplained,
        "time_offset": offset,
        "scene_depth_m": float(np.median(depths)) if len(depths) >= FEWEST_DEPTHS else None,
        "scale": float(np.median(ratios)) if len(ratios) >= FEWEST_DEPTHS else None,
    }
    check = TrajectoryCheck(**figures, findings=())
    return TrajectoryCheck(**figures, findings=tuple(_findings(check, depth_range_m)))


def _findings(check: TrajectoryCheck, depth_range_m: tuple[float, float]) -> Iterable[str]:
    if check.keyframes < 3:
        yield (
            f"only {check.keyframes} of {check.frames} frames become keyframes: the camera hardly moves, or its poses"
            " do not"
        )
    if check.rotation_only_share > MOST_ROTATION_ONLY:
        yield (
            f"{check.rotation_only_share:.0%} of the keyframes only turn, less than {ROTATION_ONLY_M * 100:.0f} cm from"
            " the one before: without a baseline there is no parallax to measure depth by"
        )
    if check.jumps:
        yield (
            f"the pose jumps at {len(check.jumps)} of {check.frames} images ({_some(check.jumps)}): use a continuous"
            " frame such as odom, or look for lost tracking"
        )
    offset = check.time_offset
    if offset and _is_offset(offset):
        later = "later" if offset.offset_s > 0 else "earlier"
        yield (
            f"the poses fit the images best {abs(offset.offset_s) * 1000:.0f} ms {later} than their stamps say"
            f" (± {offset.spread_s * 1000:.0f} ms): the clocks or the latencies of camera and tracking differ"
        )
    elif offset and offset.residual_px > LARGEST_RESIDUAL_PX:
        yield (
            f"the poses do not explain how the images move: points lie {offset.residual_px:.1f} pixels from where they"
            " may be, at no offset of time much less; check the mounting of the camera, K and the rectification"
        )
    elif len(check.unexplained) > MOST_UNEXPLAINED * check.followed:
        yield (
            f"at {len(check.unexplained)} of {check.followed} images ({_some(check.unexplained)}) the pose does not"
            f" explain how the image moved, points lie {LARGEST_RESIDUAL_PX:g} pixels and more from where they may be:"
            " images or poses were lost or stamped wrongly there, and depth is wrong there, too"
        )
    if check.scale is not None:
        if not SCALE_RANGE[0] <= check.scale <= SCALE_RANGE[1]:
            yield (
                f"the poses have another scale than the depth sensor: points triangulated with them lie at"
                f" {check.scale:.2f} times the sensor's depth, as of a tracker without scale"
            )
    elif check.scene_depth_m is not None and not depth_range_m[0] < check.scene_depth_m < depth_range_m[1]:
        yield (
            f"the scale of the poses is not plausible: the scene lies at {check.scene_depth_m:.2g} m by them, and the"
            f" network tells {depth_range_m[0]:g} to {depth_range_m[1]:g} m"
        )


def _some(positions: tuple[int, ...]) -> str:
    return ", ".join(map(str, positions[:5])) + (" and more" if len(positions) > 5 else "")


def _unexplained(tracks: Tracks, track: PoseTrack) -> tuple[int, tuple[int, ...]]:
    """How many images points were followed to, and those whose motion the poses do not explain, the worst first."""
    positions, distances = residuals_px(tracks, track)
    order = np.argsort(-distances)
    worst = order[distances[order] > LARGEST_RESIDUAL_PX]
    return len(positions), tuple(positions[worst].tolist())


def _is_offset(offset: TimeOffset) -> bool:
    return abs(offset.offset_s) > max(LARGEST_OFFSET_S, 3 * offset.spread_s) and (
        offset.residual_px < 0.8 * offset.residual_at_zero_px
    )


def _keyframes(poses: list[PoseItem], config: KeyframeConfig) -> tuple[int, np.ndarray]:
    """The number of keyframes, and the distances between consecutive ones."""
    buffer: KeyframeBuffer[None] = KeyframeBuffer(config)
    count, baselines, before = 0, [], None
    for item in poses:
        decision = buffer.add(item.world_T_cam, None)
        if decision in (KeyframeDecision.FIRST, KeyframeDecision.KEYFRAME):
            count += 1
            position = item.world_T_cam[:3, 3]
            if decision is KeyframeDecision.KEYFRAME:
                baselines.append(float(np.linalg.norm(position - before)))
            before = position
    return count, np.array(baselines)


def _jumps(track: PoseTrack) -> tuple[int, ...]:
    """The positions of images whose pose lies far from the one before, next to how it moves around there."""
    if len(track) < 3:
        return ()
    R, t = track.world_T_cam[:, :3, :3], track.world_T_cam[:, :3, 3]
    seconds = np.diff(track.stamps_s)
    moved = np.linalg.norm(np.diff(t, axis=0), axis=1)
    cosine = (np.einsum("nij,nij->n", R[:-1], R[1:]) - 1) / 2
    turned = np.degrees(np.arccos(cosine.clip(-1, 1)))
    jumped = np.zeros(len(moved), bool)
    for steps, least in ((moved, JUMP_M), (turned, JUMP_DEG)):
        speeds = steps / seconds
        for i in np.flatnonzero(steps > least):
            around = np.delete(speeds[max(0, i - NEIGHBOURS) : i + NEIGHBOURS + 1], min(i, NEIGHBOURS))
            jumped[i] |= speeds[i] > JUMP_FACTOR * np.median(around)
    return tuple(track.index[1:][jumped].tolist())


def _triangulate(tracks: Tracks, track: PoseTrack, shift_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth of the points in the first frames of their stretches, and its ratio to sensor depth where there is some."""
    first, last = (track.at(track.stamps_of(tracks.frame_index[:, i]) + shift_s) for i in (0, -1))
    last_T_first = np.linalg.inv(last) @ first
    R, t = last_T_first[:, :3, :3], last_T_first[:, None, :3, 3]
    x_first, x_last = (np.concatenate((tracks.rays[:, i], np.ones_like(tracks.rays[:, i, :, :1])), -1) for i in (0, -1))
    ray = x_first @ R.transpose(0, 2, 1)
    # depth · ray + t is parallel to x_last, so depth · (x_last × ray) = −x_last × t.
    across, moved = np.cross(x_last, ray), -np.cross(x_last, np.broadcast_to(t, x_last.shape))
    square = (across**2).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = (across * moved).sum(-1) / square
        parallax = np.sqrt(square) / np.linalg.norm(x_last, axis=-1) / np.linalg.norm(ray, axis=-1)
    seen = (parallax > LEAST_PARALLAX_RAD) & (depth > 0)
    ratios = (depth / tracks.sensor_depth)[seen]
    return depth[seen], ratios[np.isfinite(ratios)]
