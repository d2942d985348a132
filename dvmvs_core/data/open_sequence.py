# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Opens what is at a path as a sequence."""

from __future__ import annotations

from pathlib import Path

from dvmvs_core.data.bags.bag_files import is_storage, storage_files
from dvmvs_core.data.bags.bag_sequence import BagSequence, BagTopics
from dvmvs_core.data.bags.ros1_bag import SUFFIX as ROS1_SUFFIX
from dvmvs_core.data.file_order import held_kinds
from dvmvs_core.data.scene_folder import SceneSequence
from dvmvs_core.data.sequence import FrameSequence
from dvmvs_core.errors import DataError


def open_sequence(path: str | Path, topics: BagTopics | None = None) -> FrameSequence:
    """Open a scene folder or a bag, by what is at the path.

    Args:
        path: scene folder, bag folder, a single .mcap or .db3 file, compressed or not, or a ROS 1 .bag file.
        topics: topics and frames of a bag where the found ones would be wrong; of no effect on a folder.

    Raises:
        DataError: if there is neither, or it is broken.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; a sequence is a scene folder or a rosbag2")
    if not (path.is_dir() or path.is_file()):
        raise DataError(f"{path} is neither a file nor a folder; a sequence is a scene folder or a rosbag2")
    if _is_bag(path):
        return BagSequence(path, topics or BagTopics())
    if path.is_dir() and any((path / part).exists() for part in ("images", "poses.txt", "K.txt")):
        return SceneSequence(path)
    raise DataError(
        f"{path} is neither a scene folder (images/, poses.txt, K.txt) nor a rosbag2 (metadata.yaml, *.mcap or *.db3)"
        + (f"; it holds {held_kinds(path)}" if path.is_dir() else "")
        + ". Images or a video come with poses through dvmvs import (trajectory, colmap, transforms, ...)"
    )


def _is_bag(path: Path) -> bool:
    if path.is_file():
        return is_storage(path) or path.suffix == ROS1_SUFFIX
    return (path / "metadata.yaml").exists() or bool(storage_files(path))
