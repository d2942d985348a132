# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Checks poses before depth is judged, since bad depth is usually a bad pose, and says in words what is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np

from dvmvs_core.config import KeyframeConfig
from dvmvs_core.data.sequence import FrameSequence, PoseItem
from dvmvs_core.evaluation.trajectory.image_agreement import ImageAgreement, compare_with_images, some
from dvmvs_core.evaluation.trajectory.image_tracks import Tracks, follow_points
from dvmvs_core.evaluation.trajectory.pose_track import PoseTrack
from dvmvs_core.keyframes import KeyframeBuffer, KeyframeDecision

ROTATION_ONLY_M = 0.02
"""Keyframes closer together than this show no parallax."""

MAX_ROTATION_ONLY = 0.3
"""Share of such keyframes above which it is said."""

JUMP_FACTOR, JUMP_M, JUMP_DEG = 5.0, 0.15, 15.0
"""A step is a jump if it is so many times longer than those around it, and longer than this."""

NEIGHBOURS = 5
"""Steps on either side of one that it is compared with."""

MIN_KEYFRAMES = 3
"""Fewer keyframes than these show that the camera hardly moves."""


@dataclass(frozen=True)
class TrajectoryCheck:
    """What poses and images say about the poses.

    Attributes:
        frames: images with a pose.
        duration_s: from the first to the last.
        keyframes: how many of them the keyframe rule takes.
        depths: keyframes that get a depth: all but a first one.
        keyframe_rate_hz: how many it takes a second.
        baseline_m: median distance between consecutive keyframes.
        rotation_only_share: share of keyframes without parallax to the one before.
        jumps: positions of the images that come after a jump of the pose.
        images: what the images say; None where no points could be followed or no pair of images has poses.
        findings: sentences about what is wrong; empty if nothing is.
        not_checked: sentences about what could not be told, and why; empty if all was checked.
    """

    frames: int
    duration_s: float
    keyframes: int
    depths: int
    keyframe_rate_hz: float
    baseline_m: float | None
    rotation_only_share: float
    jumps: tuple[int, ...]
    images: ImageAgreement | None
    findings: tuple[str, ...]
    not_checked: tuple[str, ...]

    def summary(self) -> str:
        """Say in one sentence what was found of use, whether something is wrong or not."""
        said = [f"{self.keyframes} of {self.frames} frames become keyframes"]
        if self.baseline_m is not None:
            said.append(f"{self.baseline_m:.3f} m apart")
            said.append(f"{self.depths} of them get a depth (a first one has nothing to be matched with)")
        if self.images is not None:
            said.append(f"poses explain the images to {self.images.recorded_px:.2f} pixels")
            if self.images.scale is not None:
                low, high = self.images.scale.interval
                said.append(f"their scale is {self.images.scale.scale:.2f} ({low:.2f} to {high:.2f}) times the depth's")
        end = ""
        if not self.findings:
            if self.images is None:
                end = "; the poses were not compared with the images"
            elif self.not_checked:
                end = "; nothing is wrong with the poses in what could be checked"
            else:
                end = "; nothing is wrong with the poses"
        return ", ".join(said) + end

    def to_dict(self) -> dict:
        """Return the figures as JSON has them: null in place of what is not finite."""
        return _finite(asdict(self))


def check_trajectory(
    sequence: FrameSequence,
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
    figures = {
        "frames": len(track),
        "duration_s": duration_s,
        "keyframes": chosen,
        "depths": len(baselines),
        "keyframe_rate_hz": chosen / duration_s if duration_s else 0.0,
        "baseline_m": float(np.median(baselines)) if len(baselines) else None,
        "rotation_only_share": float((baselines < ROTATION_ONLY_M).mean()) if len(baselines) else 0.0,
        "jumps": _jumps(track),
        "images": compare_with_images(tracks, track) if tracks else None,
    }
    check = TrajectoryCheck(**figures, findings=(), not_checked=())
    return TrajectoryCheck(
        **figures, findings=tuple(_findings(check, depth_range_m)), not_checked=tuple(_not_checked(check))
    )


def _findings(check: TrajectoryCheck, depth_range_m: tuple[float, float]) -> Iterable[str]:
    if check.keyframes < MIN_KEYFRAMES:
        yield (
            f"only {check.keyframes} of {check.frames} frames become keyframes: the camera hardly moves, or its poses"
            " do not"
        )
    if check.rotation_only_share > MAX_ROTATION_ONLY:
        yield (
            f"{check.rotation_only_share:.0%} of the keyframes only turn, less than {ROTATION_ONLY_M * 100:.0f} cm from"
            " the one before: without a baseline there is no parallax to measure depth by"
        )
    if check.jumps:
        yield (
            f"the pose jumps at {len(check.jumps)} of {check.frames} images ({some(check.jumps)}): use a continuous"
            " frame such as odom, or look for lost tracking"
        )
    if check.images is not None:
        yield from check.images.findings(depth_range_m)


def _not_checked(check: TrajectoryCheck) -> Iterable[str]:
    if check.images is not None:
        yield from check.images.not_checked()
    else:
        yield ("poses, K and time were not compared with the images: no two of them share enough points and have poses")


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
