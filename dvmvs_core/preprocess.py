# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Crop, resize and normalise an image and its intrinsics together.

The image is resized in float32, not in uint8, and the intrinsics are scaled without a half-pixel term: both as
published, and the released weights depend on both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from dvmvs_core.errors import FrameError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

IMAGE_SCALE = 255.0
IMAGE_MEAN = np.array((0.485, 0.456, 0.406), dtype=np.float32)
IMAGE_STD = np.array((0.229, 0.224, 0.225), dtype=np.float32)
"""Statistics of ImageNet in RGB order, which the published feature extractor was pretrained with."""


def normalise(image: np.ndarray) -> np.ndarray:
    """Return (3, h, w) float32 for the network from an RGB image (h, w, 3) with values 0…255."""
    scaled = image.astype(np.float32) / np.float32(IMAGE_SCALE)
    return np.ascontiguousarray(((scaled - IMAGE_MEAN) / IMAGE_STD).transpose(2, 0, 1))


def normalised_tensor(image: Tensor) -> Tensor:
    """Return (B, 3, h, w) from (B, h, w, 3), on any device: on a CPU number for number what `normalise` returns."""
    import torch

    # Plain numbers, since a tensor of them would have to be sent to the device first.
    channels = [
        (image[..., c] / IMAGE_SCALE - float(IMAGE_MEAN[c])) / float(IMAGE_STD[c]) for c in range(image.shape[-1])
    ]
    return torch.stack(channels, dim=1)


def resized_tensor(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (h, w, 3) float32 with values 0…255 from (H, W, 3) uint8, on any device, as `Preprocessor.image`."""
    from torch.nn import functional

    channels_first = image.permute(2, 0, 1)[None].float()
    resized = functional.interpolate(channels_first, size=size, mode="bilinear", align_corners=False)
    return resized[0].permute(1, 2, 0)


def rounded(image: Tensor) -> Tensor:
    """Return uint8 from values 0…255, on the same device."""
    return image.round().clamp(0, 255).byte()


class Preprocessor:
    """Maps images, depth and intrinsics of one camera to the network's resolution.

    Args:
        K: (3, 3) intrinsics of the camera's images, pixels; its skew is dropped.
        size: (H, W) of the camera's images.
        new_size: (h, w) of the network's input.
        crop: remove columns or rows, the same number on both sides, so that the aspect ratio is kept. Without it the
            image is stretched, as in the published test.
        distortion_crop: pixels to remove at every border first; used only together with `crop`.

    Attributes:
        K: (3, 3) float32 intrinsics at the network's resolution.
    """

    def __init__(
        self,
        K: np.ndarray,
        size: tuple[int, int],
        new_size: tuple[int, int],
        crop: bool = False,
        distortion_crop: int = 0,
    ) -> None:
        self.size = size
        self._camera_K = K.tobytes()
        self.new_size = new_size
        self.crop_x, self.crop_y = self._crop(distortion_crop) if crop else (0, 0)
        scale_x = new_size[1] / (size[1] - 2 * self.crop_x)
        scale_y = new_size[0] / (size[0] - 2 * self.crop_y)
        self.K = np.array(
            (
                (K[0, 0] * scale_x, 0.0, (K[0, 2] - self.crop_x) * scale_x),
                (0.0, K[1, 1] * scale_y, (K[1, 2] - self.crop_y) * scale_y),
                (0.0, 0.0, 1.0),
            ),
            dtype=np.float32,
        )

    def is_for(self, K: np.ndarray, size: tuple[int, int]) -> bool:
        """Whether it was made for a camera with these intrinsics (3, 3) and this size (H, W)."""
        return size == self.size and K.tobytes() == self._camera_K

    def image(self, image: np.ndarray) -> np.ndarray:
        """Return (h, w, 3) float32 with values 0…255 from an RGB image (H, W, 3) uint8."""
        cropped = self.cropped(image).astype(np.float32)
        return cv2.resize(cropped, self.new_size[::-1], interpolation=cv2.INTER_LINEAR)

    def network_image(self, image: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return what the network takes from an RGB image (H, W, 3) uint8.

        On CUDA, the bytes of the image are all that is sent, from pinned memory, and the device resizes them.

        Returns:
            Normalised (1, 3, h, w), contiguous, and with values 0…255 (h, w, 3), both float32 on the device.
        """
        # Imported here: whoever reads recordings uses this module too, and torch takes seconds.
        import torch

        if device.type == "cuda":
            sent = torch.from_numpy(np.ascontiguousarray(self.cropped(image)))
            resized = resized_tensor(sent.pin_memory().to(device, non_blocking=True), self.new_size)
        else:
            resized = torch.from_numpy(self.image(image)).to(device)
        return normalised_tensor(resized[None]), resized

    def depth(self, depth: np.ndarray) -> np.ndarray:
        """Return (h, w) from a depth image (H, W), by nearest neighbour: no depth is invented between surfaces."""
        return cv2.resize(self.cropped(depth), self.new_size[::-1], interpolation=cv2.INTER_NEAREST)

    def _crop(self, border: int) -> tuple[int, int]:
        height, width = self.size[0] - 2 * border, self.size[1] - 2 * border
        new_height, new_width = self.new_size
        if width / height > new_width / new_height:
            return int((width - height * new_width / new_height) // 2) + border, border
        return border, int((height - width * new_height / new_width) // 2) + border

    def cropped(self, image: np.ndarray) -> np.ndarray:
        """Return the part of an image or depth image (H, W, …) that is used, as a view.

        Raises:
            FrameError: if it has another size than the intrinsics were given for.
        """
        if image.shape[:2] != self.size:
            raise FrameError(
                f"image must have the size {self.size} that its intrinsics were given for; got {image.shape[:2]}"
            )
        height, width = self.size
        return image[self.crop_y : height - self.crop_y, self.crop_x : width - self.crop_x]
