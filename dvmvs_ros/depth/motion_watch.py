# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Whether the camera's poses are such that depth can come of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from dvmvs_core.geometry import is_finite_pose

WINDOW_NS = 5_000_000_000
FRAMES = 300
MIN_FRAMES = 5

FAST_M_S = 15.0
"""Median speed beyond which poses are taken to be in another unit than metres."""

FAR_M = 1.0
"""Median baseline of neighbouring frames beyond which they hardly show the same things."""

JUMP_M = 0.5
"""A step of one frame is a jump from here on, if the median step is ten times less."""

STILL_M = 0.05
"""A camera that stayed inside a cube of this diagonal for the whole window has not moved."""

TURN_DEG = 10.0


@dataclass(frozen=True)
class Motion:
    """How the camera moved over the last seconds.

    Attributes:
        seconds: length of the window.
        baseline_m: median distance between neighbouring frames.
        speed_m_s: median speed.
        longest_step_m: longest distance between neighbouring frames.
        extent_m: diagonal of the box around all positions.
        turn_deg: largest rotation against the window's first frame.
    """

    seconds: float
    baseline_m: float
    speed_m_s: float
    longest_step_m: float
    extent_m: float
    turn_deg: float

    def complaint(self) -> str:
        """Return what makes depth impossible or wrong, for a person; empty if nothing does."""
        between = f"median baseline {self.baseline_m:.1f} m between frames"
        if self.baseline_m > FAR_M:
            if self.speed_m_s > FAST_M_S:
                return f"poses look unscaled: {between} ({self.speed_m_s:.0f} m/s); they must be metres"
            return f"images are too far apart: {between}; send more images a second, or move slower"
        if self.longest_step_m > max(JUMP_M, 10.0 * self.baseline_m):
            return (
                f"poses jump: {self.longest_step_m:.1f} m between two frames, median {self.baseline_m:.3f} m; take a"
                " continuous frame, such as odom and not map"
            )
        if self.seconds > 3.0 and self.extent_m < STILL_M and self.turn_deg > TURN_DEG:
            return (
                f"pure rotation: {self.turn_deg:.0f}° of turning with {self.extent_m * 100:.1f} cm of translation in"
                f" {self.seconds:.0f} s; only translation lets depth be measured. If the camera does move, the poses"
                " are unscaled, or the transform of the camera on its body is missing"
            )
        return ""

    def remark(self) -> str:
        """Return what explains an absence of depth without being wrong; empty if nothing does."""
        if self.seconds > 3.0 and self.extent_m < STILL_M and self.turn_deg <= TURN_DEG:
            return (
                f"standing still: {self.extent_m * 100:.1f} cm in {self.seconds:.0f} s, so there is no new keyframe."
                " If the camera does move, the poses are unscaled"
            )
        return ""

    def values(self) -> dict[str, str]:
        """Return the figures as text for `/diagnostics`."""
        return {
            "median baseline between frames m": f"{self.baseline_m:.3f}",
            "speed m/s": f"{self.speed_m_s:.2f}",
            "extent of motion m": f"{self.extent_m:.3f}",
            "turning deg": f"{self.turn_deg:.1f}",
        }


class MotionWatch:
    """Remembers the poses of the last seconds, in the images' time. Call it from one thread."""

    def __init__(self) -> None:
        self._poses: deque[tuple[int, np.ndarray]] = deque(maxlen=FRAMES)

    def add(self, stamp_ns: int, world_T_cam: np.ndarray) -> None:
        """Take the pose of the next frame."""
        if not is_finite_pose(world_T_cam):
            return
        self._poses.append((stamp_ns, world_T_cam))
        while stamp_ns - self._poses[0][0] > WINDOW_NS:
            self._poses.popleft()

    def clear(self) -> None:
        """Forget all poses, as after a jump in time."""
        self._poses.clear()

    def motion(self) -> Motion | None:
        """Return how the camera moved; None while there are too few frames to tell."""
        if len(self._poses) < MIN_FRAMES:
            return None
        stamps_ns = np.array([stamp_ns for stamp_ns, _ in self._poses])
        poses = np.stack([world_T_cam for _, world_T_cam in self._poses])
        positions = poses[:, :3, 3]
        steps_m = np.linalg.norm(np.diff(positions, axis=0), axis=1)
        seconds = np.diff(stamps_ns) * 1e-9
        # trace(R) = 1 + 2 cos(angle)
        trace = np.einsum("ij,nij->n", poses[0, :3, :3], poses[:, :3, :3])
        return Motion(
            seconds=float(stamps_ns[-1] - stamps_ns[0]) * 1e-9,
            baseline_m=float(np.median(steps_m)),
            speed_m_s=float(np.median(steps_m / seconds)),
            longest_step_m=float(steps_m.max()),
            extent_m=float(np.linalg.norm(np.ptp(positions, axis=0))),
            turn_deg=float(np.degrees(np.arccos(np.clip((trace.min() - 1.0) / 2.0, -1.0, 1.0)))),
        )
