# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Intrinsics of the cameras of a bag over time."""

from __future__ import annotations

from bisect import bisect_right

from dvmvs_core.data.bags.bag_files import BagFiles, deserialise
from dvmvs_core.data.bags.bag_images import ImageTopic
from dvmvs_core.data.bags.bag_topics import CAMERA_INFO
from dvmvs_core.data.lens.camera_info import CameraModel, read_camera_info
from dvmvs_core.data.lens.camera_view import camera_key
from dvmvs_core.errors import DataError, MessageError
from dvmvs_core.foreign import foreign


class BagCamera:
    """Intrinsics of one camera, kept only where they change; messages that hold none are passed over, as in the node.

    Args:
        files: the bag.
        topic: a topic of CameraInfo.

    Attributes:
        notes: a sentence on what was passed over, if anything was.

    Raises:
        DataError: if no message says anything, as of a camera that is not calibrated.
    """

    def __init__(self, files: BagFiles, topic: str) -> None:
        self.topic, self._path = topic, files.path
        self._stamps: list[int] = []
        self._cameras: list[CameraModel] = []
        self.notes: list[str] = []
        refused, why = 0, "there is none"
        for message in files.messages({topic}):
            try:
                with foreign("camera_info cannot be read", MessageError):
                    info = deserialise(message.data, CAMERA_INFO)
                    camera = read_camera_info(info)
            except MessageError as error:
                refused, why = refused + 1, str(error)
                continue
            if not self._cameras or camera_key(self._cameras[-1]) != camera_key(camera):
                self._stamps.append(info.header.stamp.sec * 10**9 + info.header.stamp.nanosec)
                self._cameras.append(camera)
        if not self._cameras:
            raise DataError(f"{files.path}, topic {topic}: none of {refused} camera_info can be used; {why}")
        if refused:
            self.notes.append(f"{files.path}, topic {topic}: {refused} camera_info were passed over; the last: {why}")

    def of(self, image: ImageTopic, image_topic: str) -> CameraModel:
        """Return the intrinsics of what a topic of images holds.

        Raises:
            DataError: if no intrinsics are of its size.
        """
        camera = self.at(image.stamp_ns)
        if all((known.height, known.width) != image.size for known in self._cameras):
            raise DataError(
                f"{self._path}: {self.topic} must be of the size of {image_topic},"
                f" {image.size[1]}×{image.size[0]}; got {camera.width}×{camera.height}"
            )
        return camera

    def at(self, stamp_ns: int) -> CameraModel:
        """Return the newest intrinsics at a time, or the first of all."""
        return self._cameras[max(0, bisect_right(self._stamps, stamp_ns) - 1)]
