"""Raw or rectified: what the images on a topic are, and the pixels and intrinsics that become a frame.

No ROS in here, as in frame_sync.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from dvmvs_core.data.camera_info import CameraModel
from dvmvs_core.data.rectification import Rectifier

AUTO, ALWAYS, NEVER = RECTIFY = ("auto", "always", "never")

_RECTIFIED = re.compile(r"(^|[/_])rect(ified)?([/_]|$)")


def is_rectified_topic(topic: str) -> bool:
    """Return whether a topic's name says that its images are rectified, as `image_rect` and `rgb/color/rect/image`."""
    return _RECTIFIED.search(topic) is not None


class Rectification:
    """Rectifies raw images straight to the network's size, and leaves rectified ones alone.

    Args:
        mode: "always" to rectify by camera_info, "never" to take images as they are, "auto" to go by the topic's name.
            A camera without distortion is never rectified.
        topic: the images' topic.
        new_size: (h, w) of the network.
        crop: whether to keep the aspect ratio.
        log: told once for each camera what is done with its images.
    """

    def __init__(
        self, mode: str, topic: str, new_size: tuple[int, int], crop: bool, log: Callable[[str], None]
    ) -> None:
        self._topic = topic
        self._raw = mode == ALWAYS or (mode == AUTO and not is_rectified_topic(topic))
        self._new_size = new_size
        self._crop = crop
        self._log = log
        self._camera: tuple | None = None
        self._rectifier: Rectifier | None = None

    def __call__(self, image: np.ndarray, camera: CameraModel) -> tuple[np.ndarray, np.ndarray]:
        """Return the (h, w, 3) uint8 RGB image and the (3, 3) intrinsics of a frame from an image of a camera.

        Raises:
            MessageError: if the camera_info does not describe a lens that can be rectified.
        """
        self._follow_camera(camera)
        if self._rectifier is None:
            return image, camera.K
        return self._rectifier.image(image), self._rectifier.K

    def _follow_camera(self, camera: CameraModel) -> None:
        key = _key(camera)
        if key == self._camera:
            return
        self._rectifier = None
        if camera.lens is None:
            self._log(f"camera_info has no distortion: images of {self._topic} are taken as they are")
        elif not self._raw:
            self._log(f"images of {self._topic} are taken as rectified already (parameter rectify)")
        else:
            self._rectifier = Rectifier(camera, self._new_size, self._crop)
            self._log(f"images of {self._topic} are rectified by camera_info ({camera.lens.model}; parameter rectify)")
        self._camera = key


def _key(camera: CameraModel) -> tuple:
    lens = camera.lens
    arrays = [camera.K] if lens is None else [camera.K, lens.K, lens.coefficients, lens.R]
    return camera.height, camera.width, lens and lens.model, *(array.tobytes() for array in arrays)
