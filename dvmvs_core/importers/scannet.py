# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""ScanNet: SCENE/SCENE.sens.

Correct: frames of the colour camera. The image is brought to the size of the depth image by averaging, never warped;
depth is moved into the colour camera with both intrinsics and the extrinsics (identities in the public release, whose
depth is aligned already), so a depth edge cannot tear the image; the depth shift is honoured, and the pose is that of
the colour camera.

Published: frames of the depth camera. Colour is warped by the homography of the two intrinsics, without extrinsics;
depth is taken as millimetres.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dvmvs_core.errors import DataError
from dvmvs_core.foreign import foreign
from dvmvs_core.geometry import inverse_pose
from dvmvs_core.importers import sens
from dvmvs_core.importers.dataset import Dataset, ImportedFrame, Scene, SceneInput, SkippedFrame
from dvmvs_core.importers.formats import ScannetOptions
from dvmvs_core.importers.registration import MILLIMETRES, DepthRegistration, check_transform
from dvmvs_core.importers.timed_poses import MICROSECOND_NS


@dataclass(frozen=True)
class Scannet(Dataset):
    """ScanNet."""

    published: bool
    options: ScannetOptions
    title = "ScanNet"
    published_pose_format = "%.8e"

    def find(self, root: Path) -> list[SceneInput]:
        """Return the .sens files: the given one, or those in a folder and its subfolders."""
        files = [root] if root.suffix == ".sens" else sorted([*root.glob("*.sens"), *root.glob("*/*.sens")])
        if not files:
            raise DataError(f"{root} holds no ScanNet scene: looked for *.sens in it and in its subfolders")
        return [SceneInput(file.stem, file) for file in files]

    def open(self, scene: SceneInput) -> Scene:
        """Open a .sens file."""
        header = sens.read_header(scene.path)
        return PublishedScannetScene(scene.path, header) if self.published else ScannetScene(scene.path, header)


class _SensScene(Scene):
    def __init__(self, path: Path, header: sens.SensHeader) -> None:
        self._path = path
        self._header = header

    def __len__(self) -> int:
        return self._header.frames

    def frames(self, step: int) -> Iterator[ImportedFrame | SkippedFrame]:
        for item in sens.read_frames(self._path, self._header, step):
            if isinstance(item, SkippedFrame):
                yield item
                continue
            try:
                with foreign(f"frame {item.index} cannot be converted"):
                    image = sens.decode_colour(self._header, item.colour)
                    depth = sens.decode_depth(self._header, item.depth)
                    frame = self._frame(item, image, depth)
            except DataError as error:
                yield SkippedFrame(f"frame {item.index}", str(error))
            else:
                yield frame

    def _frame(self, item: sens.SensFrame, image: np.ndarray, depth: np.ndarray) -> ImportedFrame:
        raise NotImplementedError


class ScannetScene(_SensScene):
    """Frames of the colour camera, with registered depth.

    Raises:
        DataError: if the extrinsics are not rigid.
    """

    def __init__(self, path: Path, header: sens.SensHeader) -> None:
        super().__init__(path, header)
        self.K = _resized_intrinsics(header.K_colour, header.colour_size, header.depth_size)
        common_T_colour = check_transform(header.common_T_colour, f"the colour extrinsics of {path}")
        common_T_depth = check_transform(header.common_T_depth, f"the depth extrinsics of {path}")
        colour_T_depth = inverse_pose(common_T_colour) @ common_T_depth
        self._depth_T_colour = inverse_pose(colour_T_depth)
        self._register = DepthRegistration(header.K_depth, colour_T_depth, self.K)

    def _frame(self, item: sens.SensFrame, image: np.ndarray, depth: np.ndarray) -> ImportedFrame:
        height, width = size = self._header.depth_size
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        depth = _in_millimetres(depth, self._header.depth_shift)
        depth = self._register(depth, size)
        world_T_colour = item.world_T_depth.astype(np.float64)
        if np.isfinite(world_T_colour).all():
            world_T_colour = world_T_colour @ self._depth_T_colour
        return ImportedFrame(image, depth, world_T_colour, item.colour_time_us * MICROSECOND_NS)


class PublishedScannetScene(_SensScene):
    """Frames of the depth camera, with warped colour."""

    def __init__(self, path: Path, header: sens.SensHeader) -> None:
        super().__init__(path, header)
        self.K = header.K_depth
        self._samples = colour_samples(header.K_colour, header.K_depth, header.colour_size, header.depth_size)

    def _frame(self, item: sens.SensFrame, image: np.ndarray, depth: np.ndarray) -> ImportedFrame:
        return ImportedFrame(take_samples(image, self._samples), depth, item.world_T_depth)


def _in_millimetres(depth: np.ndarray, depth_shift: float) -> np.ndarray:
    if depth_shift == MILLIMETRES:
        return depth
    millimetres = np.rint(depth * (MILLIMETRES / depth_shift))
    millimetres[millimetres > np.iinfo(np.uint16).max] = 0
    return millimetres.astype(np.uint16)


def _resized_intrinsics(K: np.ndarray, size: tuple[int, int], new_size: tuple[int, int]) -> np.ndarray:
    """K of an image resized by averaging.

    Pixel centres lie at integers, so the principal point moves by half a pixel too: exact, unlike the network's own.
    """
    scale_y, scale_x = new_size[0] / size[0], new_size[1] / size[1]
    fx, fy, cx, cy = (float(K[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return np.array(
        (
            (fx * scale_x, 0.0, (cx + 0.5) * scale_x - 0.5),
            (0.0, fy * scale_y, (cy + 0.5) * scale_y - 0.5),
            (0.0, 0.0, 1.0),
        )
    )


def colour_samples(
    K_colour: np.ndarray, K_depth: np.ndarray, colour_size: tuple[int, int], depth_size: tuple[int, int]
) -> np.ndarray:
    """Return for each pixel of the depth image the index of its colour pixel, as the published export takes it.

    K_colour K_depth⁻¹ maps a pixel of the depth image to one of the colour image, as if both cameras stood at one
    place. The result is normalised by half the size where the sampler expects half of one less, so the image is
    squeezed by up to one pixel: kept, with float32 throughout, since that is what the published training data look
    like.

    Args:
        K_colour: (3, 3) float32 intrinsics of the colour image.
        K_depth: (3, 3) float32 intrinsics of the depth image.
        colour_size: (H, W).
        depth_size: (h, w).

    Returns:
        (h, w) indices into the flattened colour image; -1 outside of it.
    """
    import torch  # only this mode needs it: rounding at ties must be the sampler's own

    (height, width), (depth_height, depth_width) = colour_size, depth_size
    colour_H_depth = torch.from_numpy(K_colour.dot(np.linalg.inv(K_depth))).float()
    y, x = torch.meshgrid(torch.arange(depth_height).float(), torch.arange(depth_width).float(), indexing="ij")
    pixels = torch.stack((x, y, torch.ones_like(x))).reshape(1, 3, -1)
    projected = torch.bmm(colour_H_depth[None], pixels)[0]  # (3, h·w)
    half = torch.tensor((width / 2, height / 2)).reshape(2, 1)
    grid = (projected[:2] / (projected[2] + 1e-8) - half) / half
    # One sampled image of row numbers and one of column numbers, from 1, say where every later image is sampled.
    rows = torch.arange(1, height + 1).float()[:, None].expand(height, width)
    columns = torch.arange(1, width + 1).float().expand(height, width)
    row, column = (
        torch.nn.functional.grid_sample(
            torch.stack((rows, columns))[None],
            grid.T.reshape(1, depth_height, depth_width, 2),
            mode="nearest",
            padding_mode="zeros",
            align_corners=True,
        )[0]
        .long()
        .numpy()
    )
    return np.where(row > 0, (row - 1) * width + column - 1, -1)


def take_samples(image: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return the pixels of a colour image (H, W, 3) with these indices (h, w) as an image; black where one is -1."""
    warped = image.reshape(-1, 3)[samples]
    warped[samples < 0] = 0
    return warped
