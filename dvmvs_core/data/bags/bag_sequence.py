# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""rosbag2 recordings as sequences: the same stamps, lookups and pixels as the node sees.

Topics are found by type, intrinsics come from CameraInfo, and the pose of an image is the transform from its frame_id
to the world frame at its own stamp. An image without a transform is left out and counted, as in the node. Raw images of
a camera whose lens bends lines come rectified, with their depth. A mask next to them says where they show nothing.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from dvmvs_core.data.bags.bag_cameras import BagCamera
from dvmvs_core.data.bags.bag_depth import BagDepth
from dvmvs_core.data.bags.bag_files import DEPTH_NAME, BagFiles
from dvmvs_core.data.bags.bag_images import ImageMessage, image_messages
from dvmvs_core.data.bags.bag_masks import BagMasks
from dvmvs_core.data.bags.bag_poses import BagPoses, PoseStream
from dvmvs_core.data.bags.bag_topics import BagTopics, choose_topics
from dvmvs_core.data.encodings.bit_depth import BitDepth
from dvmvs_core.data.lens.camera_info import CameraModel, Lens
from dvmvs_core.data.lens.camera_view import AUTO, Rectification, is_raw_topic
from dvmvs_core.data.sequence import TRUE_DEPTH, DepthItem, FrameSequence, PoseItem, SequenceItem
from dvmvs_core.errors import DataError, MessageError, TransformError
from dvmvs_core.foreign import foreign
from dvmvs_core.preprocess import Preprocessor
from dvmvs_core.types import Frame

logger = logging.getLogger(__name__)

NO_TRANSFORM, OUT_OF_ORDER, DAMAGED = "no transform at its stamp", "not newer than the one before", "damaged message"
NO_STAMP = "no stamp"


class BagSequence(FrameSequence):
    """A rosbag2 as a sequence.

    Args:
        path: bag folder, or a single .mcap or .db3 file.
        topics: what to read where the choice by type would be wrong.

    Attributes:
        image_topic: topic of the images.
        camera_info_topic: topic of their intrinsics.
        depth_topic: topic of sensor depth, or None.
        pose_topic: topic of poses, or None if they come from /tf.
        world_frame: frame that poses are expressed in.
        camera_frame: frame_id of the images.

    Raises:
        DataError: if there are no images, intrinsics or transforms, or more than one camera to choose from.
    """

    def __init__(self, path: Path, topics: BagTopics) -> None:
        self._files = BagFiles(path)
        try:
            self._open(path, topics)
        except DataError as error:  # what is missing may be in the part of the bag that is
            raise DataError("; ".join((str(error), *self._files.notes))) from error

    def __len__(self) -> int:
        """Return the number of images stored."""
        return self._files.topics[self.image_topic].count

    def poses(self) -> Iterator[PoseItem]:
        """Yield the poses; images are read, since their stamps are in them, but not decoded."""
        for image, world_T_cam in self._posed_images(self._poses.stream()):
            yield PoseItem(image.index, _name(image.index), image.stamp_ns, world_T_cam)

    def items(self, depth: bool = True) -> Iterator[SequenceItem]:
        """Yield the frames.

        Raises:
            DataError: if no image at all can be used, or depth has another size than its image.
        """
        transforms = self._poses.stream()
        depths = self._depth.stream(transforms, self.world_frame) if depth and self._depth else None
        masks = self._masks.stream()
        usable, bits = 0, BitDepth(f"images of {self.image_topic}")
        for image, world_T_cam in self._posed_images(transforms):
            try:
                with foreign(f"image {image.index} cannot be used", MessageError):
                    recorded = image.colour(bits)
                    camera = self._camera_of(image.stamp_ns, recorded)
                    self._view.raw_mask = masks.at(image.log_ns)
                    pixels, K = self._view(recorded, camera)
                    valid_mask = self._view.valid_mask
                    frame = Frame(pixels, K, world_T_cam, image.stamp_ns, image.index)
            except MessageError as error:
                self._drop(DAMAGED, error)
                self.unreadable.add(image.index)
                continue
            usable += 1
            self._blame_mask(masks.fault or self._view.mask_fault)
            sensor_depth = depths.near(image.stamp_ns, camera) if depths else None
            if sensor_depth is not None and self._view.applies_to(camera):
                size = pixels.shape[:2]
                sensor_depth = Preprocessor(camera.K, sensor_depth.shape, size, crop=self._crop).depth(sensor_depth)
            yield SequenceItem(frame, _name(image.index), sensor_depth, self._lens_left(camera), valid_mask)
        if not usable:
            raise DataError(f"{self.path}: none of {len(self)} images can be used; {self._last_reason}")

    def fitted(self, size: tuple[int, int], crop: bool) -> BagSequence:
        """Return the sequence with raw images rectified straight to a network's size, as `FrameSequence.fitted`."""
        fitted = copy.copy(self)  # what was dropped and what is at fault stay one for both
        fitted._crop = crop
        fitted._view = fitted._rectification(size)
        return fitted

    def sensor_depths(self, indices: Collection[int]) -> Iterator[DepthItem]:
        """Yield the sensor depth of the images with these indices, less those that have none."""
        if self._depth is None:
            return
        wanted, transforms = set(indices), self._poses.stream()
        depths = self._depth.stream(transforms, self.world_frame)
        newest_ns = None
        for image in image_messages(self._files, self.image_topic):
            if newest_ns is not None and image.stamp_ns <= newest_ns:
                continue
            newest_ns = image.stamp_ns
            transforms.advance(image.log_ns, image.stamp_ns)
            camera = self._camera.at(image.stamp_ns) if image.index in wanted else None
            sensor_depth = depths.near(image.stamp_ns, camera)
            if sensor_depth is not None:
                yield DepthItem(image.index, camera.K, sensor_depth)

    def _open(self, path: Path, topics: BagTopics) -> None:
        chosen = choose_topics(self._files, topics)
        self.image_topic, self.camera_info_topic, self.depth_topic = chosen.image, chosen.camera_info, chosen.depth
        super().__init__(path, has_depth=self.depth_topic is not None)
        if self._files.custom_data.get(DEPTH_NAME) == TRUE_DEPTH:
            self.depth_name = TRUE_DEPTH
        self.faults = self._files.faults
        image = chosen.images[self.image_topic]
        self.camera_frame = image.frame_id
        self._camera = BagCamera(self._files, self.camera_info_topic)
        camera = self._camera.of(image, self.image_topic)
        self._rectify, self._crop = topics.rectify, False
        self._view = self._rectification(None)
        with foreign(f"{path}, topic {self.camera_info_topic}"):
            self._view(np.zeros((camera.height, camera.width, 3), np.uint8), camera)
        raw = self._view.applies_to(camera)
        self._depth = BagDepth(self._files, chosen, self._camera, raw, topics.rectify) if self.depth_topic else None
        self._poses = BagPoses(self._files, self.image_topic, image, topics)
        self.pose_topic, self.world_frame = self._poses.pose_topic, self._poses.world_frame
        self._masks = BagMasks(self._files, self.image_topic, image.log_ns)
        opened = (self._files, self._camera, chosen, self._masks, self._poses)
        self.notes.extend(note for part in opened for note in part.notes)
        for note in self.notes:
            logger.warning(note)

    def _rectification(self, size: tuple[int, int] | None) -> Rectification:
        return Rectification(self._rectify, self.image_topic, size, self._crop, logger.info)

    def _lens_left(self, camera: CameraModel) -> Lens | None:
        """The lens of images that go by the name of raw ones and were left so."""
        return camera.lens if is_raw_topic(AUTO, self.image_topic) and not self._view.applies_to(camera) else None

    def _camera_of(self, stamp_ns: int, pixels: np.ndarray) -> CameraModel:
        camera = self._camera.at(stamp_ns)
        if (camera.height, camera.width) != pixels.shape[:2]:
            raise MessageError(
                f"an image of {pixels.shape[1]}×{pixels.shape[0]} came with a camera_info of"
                f" {camera.width}×{camera.height}"
            )
        return camera

    def _posed_images(self, transforms: PoseStream) -> Iterator[tuple[ImageMessage, np.ndarray]]:
        """Every image that can become a frame, with its pose; counts the others."""
        self.dropped.clear()
        self._last_reason = ""
        newest_ns, posed = None, 0
        for image in image_messages(self._files, self.image_topic):
            if newest_ns is not None and image.stamp_ns == 0:
                self._drop(NO_STAMP, f"image {image.index} has no stamp: header.stamp is 0. Have its driver set it")
                continue
            if newest_ns is not None and image.stamp_ns <= newest_ns:
                early_s = (newest_ns - image.stamp_ns) * 1e-9
                self._drop(OUT_OF_ORDER, f"image {image.index} is stamped {early_s:.3f} s before an earlier one")
                continue
            newest_ns = image.stamp_ns
            transforms.advance(image.log_ns, image.stamp_ns)
            try:
                world_T_cam = transforms.lookup(self.world_frame, image.frame_id, image.stamp_ns)
            except TransformError as error:
                self._drop(NO_TRANSFORM, error)
                continue
            posed += 1
            yield image, world_T_cam
        if not posed:
            raise DataError(f"{self.path}: none of {len(self)} images has a pose; {self._last_reason}")
        if self.dropped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
            logger.warning(
                "%s: left out of %d images: %s; the last because %s", self.path, len(self), reasons, self._last_reason
            )

    def _blame_mask(self, fault: str) -> None:
        """Say once that depth is not hidden where it should be."""
        if fault and self._masks.topic not in self.faults:
            self.faults[self._masks.topic] = f"a mask is not used: {fault}"
            logger.warning("%s: a mask on %s is not used: %s", self.path, self._masks.topic, fault)

    def _drop(self, reason: str, detail: object) -> None:
        self.dropped[reason] += 1
        self._last_reason = str(detail)


def _name(index: int) -> str:
    return f"{index:05d}.png"
