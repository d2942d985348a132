# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Raw or rectified: what the images on a topic are, and the pixels and intrinsics that become a frame.

The node and the bag reader share this code, so that both see the same pixels.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from dvmvs_core.data.lens.camera_info import CameraModel, resolution_doubt
from dvmvs_core.data.lens.rectification import Rectifier

AUTO, ALWAYS, NEVER = RECTIFY = ("auto", "always", "never")

_RECTIFIED = re.compile(r"(^|[/_])rect(ified)?([/_]|$)")


def is_rectified_topic(topic: str) -> bool:
    """Return whether a topic's name says that its images are rectified, as `image_rect` and `rgb/color/rect/image`."""
    return _RECTIFIED.search(topic) is not None


def is_raw_topic(mode: str, topic: str) -> bool:
    """Return whether images of a topic are taken as raw, by one of the modes of `Rectification`."""
    return mode == ALWAYS or (mode == AUTO and not is_rectified_topic(topic))


class Rectification:
    """Rectifies raw images, straight to the network's size if that is known, and leaves rectified ones alone.

    Args:
        mode: "always" to rectify by camera_info, "never" to take images as they are, "auto" to go by the topic's name.
            A camera without distortion is never rectified.
        topic: the images' topic.
        new_size: (h, w) of the network; None to keep the camera's own size.
        crop: whether to keep the aspect ratio.
        log: told once for each camera what is done with its images.

    Attributes:
        raw_mask: (H, W) bool, which pixels of the images as they come show the scene; None for all. To be set.
        mask_fault: why it was not used for the last image, being of another size; empty if it was.
    """

    def __init__(
        self, mode: str, topic: str, new_size: tuple[int, int] | None, crop: bool, log: Callable[[str], None]
    ) -> None:
        self._topic = topic
        self._raw = is_raw_topic(mode, topic)
        self._new_size = new_size
        self._crop = crop
        self._log = log
        self._camera: tuple | None = None
        self._rectifier: Rectifier | None = None
        self.raw_mask: np.ndarray | None = None
        self.mask_fault = ""
        self._warped: tuple = (None, None, None)  # a mask, what rectified it, and what came of it

    def __call__(self, image: np.ndarray, camera: CameraModel) -> tuple[np.ndarray, np.ndarray]:
        """Return the (h, w, 3) uint8 RGB image and the (3, 3) intrinsics of a frame from an image of a camera.

        Raises:
            MessageError: if the camera_info does not describe a lens that can be rectified.
        """
        self._follow_camera(camera)
        self._check_mask(image.shape[:2])
        if self._rectifier is None:
            return image, camera.K
        return self._rectifier.image(image), self._rectifier.K

    @property
    def valid_mask(self) -> np.ndarray | None:
        """Which pixels of the last image show the scene, (h, w) bool, by lens and mask; None for all of them."""
        rectifier, mask = self._rectifier, self.raw_mask
        if mask is None or self.mask_fault:
            return rectifier.in_view if rectifier else None
        if rectifier is None:
            return mask
        if self._warped[0] is not mask or self._warped[1] is not rectifier:
            self._warped = mask, rectifier, rectifier.valid_mask(mask)
        return self._warped[2]

    def applies_to(self, camera: CameraModel) -> bool:
        """Return whether images of a camera are rectified."""
        return self._raw and camera.lens is not None

    def _check_mask(self, size: tuple[int, int]) -> None:
        self.mask_fault = ""
        if self.raw_mask is not None and self.raw_mask.shape != size:
            height, width = self.raw_mask.shape
            self.mask_fault = f"it must have the size of the images, {size[1]}×{size[0]}; got {width}×{height}"

    def _follow_camera(self, camera: CameraModel) -> None:
        key = camera_key(camera)
        if key == self._camera:
            return
        self._rectifier = None
        if doubt := resolution_doubt(camera.K, (camera.height, camera.width)):
            self._log(f"camera_info of {self._topic}: {doubt}")
        if camera.lens is None:
            self._log(f"camera_info has no distortion: images of {self._topic} are taken as they are")
        elif not self._raw:
            self._log(f"images of {self._topic} are taken as rectified already (parameter rectify)")
        else:
            self._rectifier = Rectifier(camera, self._new_size or (camera.height, camera.width), self._crop)
            self._log(f"images of {self._topic} are rectified by camera_info ({camera.lens.model}; parameter rectify)")
        self._camera = key


def camera_key(camera: CameraModel) -> tuple:
    """Return what is equal for two cameras only if every pixel of theirs shows the same ray."""
    lens = camera.lens
    arrays = [camera.K] if lens is None else [camera.K, lens.K, lens.coefficients, lens.R]
    return camera.height, camera.width, lens and lens.model, *(array.tobytes() for array in arrays)
