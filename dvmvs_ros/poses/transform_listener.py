# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The one place that knows whether a ROS distribution is there.

With one, transforms come from its tf2_ros, and cv_bridge decodes the image encodings that the core does not know. On a
machine with pip only, the core's own tree of transforms stands in for tf2_ros. The node uses `open_transforms` and
`decode_image`, and cannot tell the difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image
from tf2_msgs.msg import TFMessage

from dvmvs_core.data.encodings.bit_depth import BitDepth
from dvmvs_core.data.encodings.image_message import is_only_depth
from dvmvs_core.data.encodings.image_size import MAX_IMAGE_PIXELS
from dvmvs_core.data.poses.contradictions import Contradictions
from dvmvs_core.data.poses.transforms import MAX_FRAMES, TransformTree, check_transform
from dvmvs_core.errors import (
    MessageError,
    TransformConnectivityError,
    TransformError,
    TransformExtrapolationError,
    TransformLookupError,
)
from dvmvs_core.foreign import quoted
from dvmvs_ros.messages.conversions import (
    image_from_compressed_message,
    image_from_message,
    matrix_from_transform,
    stamp_to_ns,
)
from dvmvs_ros.poses.pose_admission import PoseAdmission
from dvmvs_ros.process.qos import subscription_qos

try:
    import tf2_ros
except ImportError:
    tf2_ros = None

try:
    import cv_bridge
except Exception:  # a cv_bridge built for another numpy or OpenCV raises more than ImportError
    cv_bridge = None


AUTHORITY = "default_authority"
"""Who tf2 is told that transforms are of, as by its own listener."""


class Transforms(Protocol):
    """What the node needs of a transform buffer."""

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """Return target_T_source (4, 4) at a time.

        Raises:
            TransformError: if it is not known; an extrapolation error tells whether waiting can help.
        """

    def newest_ns(self, target: str, source: str) -> int | None:
        """Return the newest time at which target_T_source is known; None if there is none, or it holds always."""

    def frames(self) -> list[str]:
        """Return the names of all frames heard of, sorted."""

    def contradiction(self, target: str, source: str) -> str:
        """Return what several publishers of late say of one transform between two frames; empty if they agree."""

    def clear(self) -> None:
        """Forget every moving transform; static ones stay."""

    def forget_after(self, stamp_ns: int) -> None:
        """Forget what is later than a time."""

    def close(self) -> None:
        """Stop listening."""


def open_transforms(
    node: Node, cache_s: float, on_change: Callable[[], None], warn: Callable[[str], None], admission: PoseAdmission
) -> Transforms:
    """Listen to /tf and /tf_static.

    Args:
        node: the node to subscribe with.
        cache_s: how far back transforms are remembered, seconds.
        on_change: called after each message that brought transforms.
        warn: called with a line for each transform that had to be refused.
        admission: says which are believed.
    """
    if tf2_ros is not None:
        return Tf2Transforms(node, cache_s, on_change, warn, admission)
    return TreeTransforms(node, cache_s, on_change, warn, admission)


def decode_image(
    message: Image | CompressedImage, max_pixels: int = MAX_IMAGE_PIXELS, bits: BitDepth | None = None
) -> np.ndarray:
    """Return an image message as (H, W, 3) uint8 RGB, through cv_bridge where only it knows the encoding.

    Args:
        message: the image.
        max_pixels: largest image that is decoded.
        bits: what is known of the camera's bits; None to go by this image alone.

    Raises:
        MessageError: unknown encoding, fewer bytes than height × step, or no JPEG or PNG.
    """
    if isinstance(message, CompressedImage):
        return image_from_compressed_message(message, max_pixels, bits)
    try:
        return image_from_message(message, max_pixels, bits)
    except MessageError:
        if cv_bridge is None or is_only_depth(message.encoding) or message.height * message.width > max_pixels:
            raise
        try:
            return np.array(cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8"))
        except Exception:
            pass  # the core's message says which encodings there are; cv_bridge's does not
        raise


def tf2_frames(yaml: str) -> list[str]:
    """Return the frames of tf2's `all_frames_as_yaml`, with the parents, which have no entry of their own; sorted.

    Read by pattern, since frames may have names that are no YAML keys.
    """
    children = re.findall(r"^(\S.*?): *$", yaml, re.MULTILINE)
    parents = re.findall(r"^ +parent: *'?(.*?)'? *$", yaml, re.MULTILINE)
    return sorted({name.strip("'\"") for name in (*children, *parents)})


class Tf2Transforms:
    """tf2_ros behind `Transforms`."""

    def __init__(
        self,
        node: Node,
        cache_s: float,
        on_change: Callable[[], None],
        warn: Callable[[str], None],
        admission: PoseAdmission,
    ) -> None:
        class Listener(tf2_ros.TransformListener):
            def callback(self, data: TFMessage) -> None:
                admission.hear()
                add(data, static=False)

            def static_callback(self, data: TFMessage) -> None:
                add(data, static=True)

        def add(data: TFMessage, static: bool) -> None:
            for stamped in data.transforms:
                try:
                    self._add(stamped, static)
                except TransformError as error:
                    admission.note_refused(str(error))
                    warn(f"a transform was ignored: {error}")
            on_change()

        self._admission = admission
        self._contradictions = Contradictions()
        self._cache = Duration(seconds=cache_s)
        self._statics: dict[str, TransformStamped] = {}
        self._open_buffer()
        self._listener = Listener(self._buffer, node)

    def _open_buffer(self) -> None:
        """Start with an empty buffer, but for static transforms."""
        # Without a node: with one, the buffer makes a service and a clock callback that outlive it. The node itself
        # clears it when time jumps.
        self._buffer = tf2_ros.Buffer(cache_time=self._cache)
        self._names: set[str] = set()
        self._newest_ns: int | None = None
        for stamped in self._statics.values():
            self._buffer.set_transform_static(stamped, AUTHORITY)

    def _add(self, stamped: TransformStamped, static: bool) -> None:
        parent, child = stamped.header.frame_id.removeprefix("/"), stamped.child_frame_id.removeprefix("/")
        t, q = stamped.transform.translation, stamped.transform.rotation
        # tf2 tells nobody but its log what it refuses, and forgets no name.
        stamp_ns = stamp_to_ns(stamped.header.stamp)
        place = check_transform(parent, child, (t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
        if static:
            if child not in self._statics and len(self._statics) >= MAX_FRAMES:
                raise TransformError(f"there are {MAX_FRAMES} static frames already; {quoted(child)} is one too many")
            self._statics[child] = stamped
            self._buffer.set_transform_static(stamped, AUTHORITY)
            self._contradictions.add(parent, child, stamp_ns, *place, static)
            return

        def add() -> None:
            if len(self._names) >= MAX_FRAMES:
                self._open_buffer()
            self._statics.pop(child, None)
            self._names.update((parent, child))
            self._newest_ns = max(stamp_ns, self._newest_ns or stamp_ns)
            self._buffer.set_transform(stamped, AUTHORITY)

        self._admission.admit(child, stamp_ns, add)
        self._contradictions.add(parent, child, stamp_ns, *place)

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """Return target_T_source at a time (see `Transforms.lookup`)."""
        try:
            stamped = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns))
        except tf2_ros.LookupException as error:
            raise TransformLookupError(str(error)) from error
        except tf2_ros.ConnectivityException as error:
            raise TransformConnectivityError(str(error)) from error
        except tf2_ros.ExtrapolationException as error:
            # tf2 tells past and future apart in its text only.
            oldest_ns = stamp_ns + 1 if "into the past" in str(error) else None
            raise TransformExtrapolationError(str(error), stamp_ns, oldest_ns) from error
        except tf2_ros.TransformException as error:
            raise TransformError(str(error)) from error
        return matrix_from_transform(stamped.transform)

    def newest_ns(self, target: str, source: str) -> int | None:
        """Return the newest time of a chain (see `Transforms.newest_ns`)."""
        try:
            return self._buffer.get_latest_common_time(target, source).nanoseconds or None  # 0: static all along
        except tf2_ros.TransformException:
            return None

    def frames(self) -> list[str]:
        """Return the names of all frames heard of."""
        return tf2_frames(self._buffer.all_frames_as_yaml())

    def contradiction(self, target: str, source: str) -> str:
        """Return what several publishers say of one transform (see `Transforms.contradiction`)."""
        found = self._contradictions.between(target, source, of_late=True)
        return found.said if found else ""

    def clear(self) -> None:
        """Forget every moving transform."""
        self._contradictions.clear()
        self._open_buffer()

    def forget_after(self, stamp_ns: int) -> None:
        """Forget every moving transform if one is later than a time, since tf2 cannot forget some."""
        if self._newest_ns is not None and self._newest_ns > stamp_ns:
            self._open_buffer()

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()


class TreeTransforms:
    """The core's tree of transforms behind `Transforms`, fed as tf2_ros feeds its buffer."""

    def __init__(
        self,
        node: Node,
        cache_s: float,
        on_change: Callable[[], None],
        warn: Callable[[str], None],
        admission: PoseAdmission,
    ) -> None:
        self._node = node
        self._admission = admission
        self._contradictions = Contradictions()
        self._tree = TransformTree(cache_s)
        self._on_change = on_change
        self._warn = warn
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions = [
            node.create_subscription(
                TFMessage, "/tf", self._on_moving, **subscription_qos(node, "/tf", QoSProfile(depth=100), warn)
            ),
            node.create_subscription(
                TFMessage, "/tf_static", self._on_static, **subscription_qos(node, "/tf_static", latched, warn)
            ),
        ]

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """Return target_T_source at a time (see `Transforms.lookup`)."""
        return self._tree.lookup(target, source, stamp_ns)

    def newest_ns(self, target: str, source: str) -> int | None:
        """Return the newest time of a chain (see `Transforms.newest_ns`)."""
        return self._tree.newest_ns(target, source)

    def frames(self) -> list[str]:
        """Return the names of all frames heard of."""
        return self._tree.frames()

    def contradiction(self, target: str, source: str) -> str:
        """Return what several publishers say of one transform (see `Transforms.contradiction`)."""
        found = self._contradictions.between(target, source, of_late=True)
        return found.said if found else ""

    def clear(self) -> None:
        """Forget every moving transform."""
        self._contradictions.clear()
        self._tree.clear()

    def forget_after(self, stamp_ns: int) -> None:
        """Forget moving transforms that are later than a time."""
        self._tree.forget_after(stamp_ns)

    def close(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_moving(self, message: TFMessage) -> None:
        self._admission.hear()
        self._add(message, static=False)

    def _on_static(self, message: TFMessage) -> None:
        self._add(message, static=True)

    def _add(self, message: TFMessage, static: bool) -> None:
        for stamped in message.transforms:
            parent, child = stamped.header.frame_id, stamped.child_frame_id
            t, q = stamped.transform.translation, stamped.transform.rotation
            stamp_ns = stamp_to_ns(stamped.header.stamp)
            try:
                place = (t.x, t.y, t.z), (q.x, q.y, q.z, q.w)
                add = partial(self._tree.set_transform, parent, child, stamp_ns, *place, static)
                if static:
                    add()
                else:
                    self._admission.admit(child, stamp_ns, add)
                self._contradictions.add(parent, child, stamp_ns, *place, static)
            except TransformError as error:
                self._admission.note_refused(str(error))
                self._warn(f"a transform was ignored: {error}")
        self._on_change()
