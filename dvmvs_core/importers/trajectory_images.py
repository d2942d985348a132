# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""A folder of images or a video, next to a trajectory of TUM's format (time tx ty tz qx qy qz qw).

Images are named by their time, in seconds, or in nanoseconds where the number has 16 digits or more; a stamps.txt of
one time a line goes before. The frames of a video are at the times that it says, from 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dvmvs_core.data.scene_folder import read_image
from dvmvs_core.data.text_lines import read_lines, stamp_to_ns
from dvmvs_core.errors import DataError
from dvmvs_core.foreign import quoted
from dvmvs_core.importers.dataset import Dataset, Scene, SceneInput, SkippedFrame
from dvmvs_core.importers.files import images_in
from dvmvs_core.importers.formats import TrajectoryOptions
from dvmvs_core.importers.posed_scene import Camera, PosedImage, PosedScene
from dvmvs_core.importers.timed_poses import SECOND_NS, poses_at, read_trajectory
from dvmvs_core.importers.video import Video


@dataclass(frozen=True)
class TrajectoryImages(Dataset):
    """Images or a video, and a trajectory."""

    published: bool
    options: TrajectoryOptions
    title = "images with a trajectory"

    def find(self, root: Path) -> list[SceneInput]:
        """Return the folder or the video itself."""
        if root.is_dir() and not images_in(root) and images_in(root / "images"):
            root = root / "images"
        if root.is_dir() and not images_in(root):
            raise DataError(f"{root} holds no images (png, jpg); name the folder of images, or a video file")
        name = root.resolve()
        return [SceneInput(name.name if root.is_dir() else name.stem, root)]

    def open(self, scene: SceneInput) -> Scene:
        """Open it."""
        options = self.options
        trajectory = read_trajectory(options.poses)
        model = "rational_polynomial" if len(options.distortion) > 5 else options.lens
        camera = Camera(options.intrinsics, options.distortion, model)
        if scene.path.is_dir():
            files = images_in(scene.path)
            times_ns, names = _times_of(files), [file.name for file in files]
            readers = [partial(read_image, file) for file in files]
        else:
            video = Video(scene.path)
            times_ns = video.times_ns()
            names = [f"frame {number}" for number in range(len(times_ns))]
            readers = [partial(video.frame, number) for number in range(len(times_ns))]
        shifted = times_ns + round(options.time_offset_s * SECOND_NS)
        poses = poses_at(trajectory, shifted, names, options.max_gap_ms, options.poses)
        return PosedScene(
            [
                pose if isinstance(pose, SkippedFrame) else PosedImage(name, read, camera, pose, int(stamp_ns))
                for name, read, pose, stamp_ns in zip(names, readers, poses, shifted, strict=True)
            ]
        )


def _times_of(files: list[Path]) -> np.ndarray:
    """The times (n,) of images, nanoseconds, which must increase."""
    listed = files[0].parent / "stamps.txt"
    if not listed.exists():
        listed = files[0].parent.parent / "stamps.txt"
    if listed.exists():
        words = [line.split()[0] for _, line in read_lines(listed) if line.strip()]
        if len(words) != len(files):
            raise DataError(f"{listed} must hold one time an image; got {len(words)} for {len(files)} images")
    else:
        words = [file.stem for file in files]
    times_ns = []
    for word, file in zip(words, files, strict=True):
        time_ns = stamp_to_ns(word)
        if time_ns is None or (time_ns is not None and times_ns and time_ns <= times_ns[-1]):
            raise DataError(
                f"{file}: images must be named by increasing times (seconds, or nanoseconds), or have a stamps.txt"
                f" next to them; got {quoted(word)}"
            )
        times_ns.append(time_ns)
    return np.array(times_ns, dtype=np.int64)
