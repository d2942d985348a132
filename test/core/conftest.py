# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Small scene folders and bags that tests make for themselves."""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

SCENE_K = np.array(((40.0, 0.0, 23.5), (0.0, 41.0, 17.5), (0.0, 0.0, 1.0)))


def scene_poses(frames: int) -> np.ndarray:
    """A camera that moves 6 cm to the right a frame and turns a little: about every second frame is a keyframe."""
    poses = np.tile(np.eye(4), (frames, 1, 1))
    for i, pose in enumerate(poses):
        pose[:3, :3] = Rotation.from_euler("yxz", (0.01 * i, -0.005 * i, 0.002 * i)).as_matrix()
        pose[:3, 3] = (0.06 * i, 0.01 * np.sin(i), -0.5)
    return poses


@pytest.fixture
def make_scene(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a scene folder of noise images of 48×36, and returns it."""

    def make(
        name: str = "scene",
        frames: int = 6,
        size: tuple[int, int] = (36, 48),
        depth: bool = True,
        poses: np.ndarray | None = None,
    ) -> Path:
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        generator = np.random.default_rng(frames)
        for i in range(frames):
            image = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / "images" / f"{i + 3:05d}.png"), image)
        if depth:
            (folder / "depth").mkdir()
            for i in range(frames):
                millimetres = generator.integers(500, 4000, size).astype(np.uint16)
                millimetres[:4] = 0
                cv2.imwrite(str(folder / "depth" / f"{i + 3:05d}.png"), millimetres)
        poses = scene_poses(frames) if poses is None else poses
        np.savetxt(folder / "poses.txt", poses.reshape(len(poses), 16))
        np.savetxt(folder / "K.txt", SCENE_K)
        return folder

    return make


@pytest.fixture
def make_bag(make_scene, tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a bag of such a scene, and returns it."""

    def make(storage: str = "mcap", name: str = "recording", **scene) -> Path:
        from dvmvs_core.data.bags.bag_writer import write_bag
        from dvmvs_core.data.open_sequence import open_sequence

        write_bag(open_sequence(make_scene(f"{name}_scene", **scene)), tmp_path / name, storage)
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def files_end_at() -> Callable[[int], AbstractContextManager]:
    """A context in which no file grows beyond so many bytes, as on a full disk; keep it short, pytest writes too."""

    @contextmanager
    def limit(size: int):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture(scope="session")
def open3d():
    """The module open3d; tests that need it are skipped where the extra [reconstruct] is not installed."""
    from dvmvs_core.errors import PackageError
    from dvmvs_core.evaluation.reconstruction.open3d_loader import load_open3d

    try:
        return load_open3d()
    except PackageError as error:
        pytest.skip(str(error))
