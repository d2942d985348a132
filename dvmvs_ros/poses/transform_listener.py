# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Transforms of /tf and /tf_static: in tf2's buffer where a ROS distribution is there, otherwise in the core's tree.

The node uses `TransformListener`, and cannot tell the difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from dvmvs_core.data.poses.contradictions import Contradictions
from dvmvs_core.data.poses.transforms import MAX_FRAMES, TransformTree, check_transform
from dvmvs_core.errors import (
    TransformConnectivityError,
    TransformError,
    TransformExtrapolationError,
    TransformLookupError,
)
from dvmvs_core.foreign import quoted
from dvmvs_ros.messages.conversions import make_header, matrix_from_transform, stamp_to_ns
from dvmvs_ros.poses.pose_admission import PoseAdmission
from dvmvs_ros.process.qos import subscription_qos

try:
    import tf2_ros
except ImportError:
    tf2_ros = None


AUTHORITY = "default_authority"
"""Who tf2 is told that transforms are of, as by its own listener."""


class TransformListener:
    """Listens to /tf and /tf_static, as tf2_ros's own listener does.

    Args:
        node: the node to subscribe with.
        cache_s: how far back transforms are remembered, seconds.
        on_change: called after each message that brought transforms.
        warn: called with a line for each transform that had to be refused.
        admission: says which are believed.
    """

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
        self._tree = TransformTree(cache_s) if tf2_ros is None else Tf2Tree(cache_s)
        self._on_change = on_change
        self._warn = warn
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions = [
            node.create_subscription(TFMessage, topic, callback, **subscription_qos(node, topic, profile, warn))
            for topic, callback, profile in (
                ("/tf", self._on_moving, QoSProfile(depth=100)),
                ("/tf_static", self._on_static, latched),
            )
        ]

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """Return target_T_source (4, 4) at a time.

        Raises:
            TransformError: if it is not known; an extrapolation error tells whether waiting can help.
        """
        return self._tree.lookup(target, source, stamp_ns)

    def newest_ns(self, target: str, source: str) -> int | None:
        """Return the newest time at which target_T_source is known; None if there is none, or it holds always."""
        return self._tree.newest_ns(target, source)

    def frames(self) -> list[str]:
        """Return the names of all frames heard of, sorted."""
        return self._tree.frames()

    def contradiction(self, target: str, source: str) -> str:
        """Return what several publishers of late say of one transform between two frames; empty if they agree."""
        found = self._contradictions.between(target, source, of_late=True)
        return found.said if found else ""

    def clear(self) -> None:
        """Forget every moving transform; static ones stay."""
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


class Tf2Tree:
    """The buffer of tf2_ros behind the methods of the core's `TransformTree`.

    Args:
        cache_s: how far back transforms are remembered, seconds.
    """

    def __init__(self, cache_s: float) -> None:
        self._cache = Duration(seconds=cache_s)
        self._statics: dict[str, TransformStamped] = {}
        self.clear()

    def clear(self) -> None:
        """Start with an empty buffer, but for static transforms."""
        # Without a node: with one, the buffer makes a service and a clock callback that outlive it. The node itself
        # clears it when time jumps.
        self._buffer = tf2_ros.Buffer(cache_time=self._cache)
        self._names: set[str] = set()
        self._newest_ns: int | None = None
        for stamped in self._statics.values():
            self._buffer.set_transform_static(stamped, AUTHORITY)

    def set_transform(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        translation: Sequence[float],
        quaternion: Sequence[float],
        static: bool = False,
    ) -> None:
        """Add a transform.

        Raises:
            TransformError: if it cannot be one, or there are too many static frames: tf2 tells nobody but its log what
                it refuses, and forgets no name.
        """
        parent, child = parent.removeprefix("/"), child.removeprefix("/")
        (x, y, z), (qx, qy, qz, qw) = check_transform(parent, child, translation, quaternion)
        transform = Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw))
        stamped = TransformStamped(header=make_header(stamp_ns, parent), child_frame_id=child, transform=transform)
        if static:
            if child not in self._statics and len(self._statics) >= MAX_FRAMES:
                raise TransformError(f"there are {MAX_FRAMES} static frames already; {quoted(child)} is one too many")
            self._statics[child] = stamped
            self._buffer.set_transform_static(stamped, AUTHORITY)
            return
        if len(self._names) >= MAX_FRAMES:
            self.clear()
        self._statics.pop(child, None)
        self._names.update((parent, child))
        self._newest_ns = max(stamp_ns, self._newest_ns or stamp_ns)
        self._buffer.set_transform(stamped, AUTHORITY)

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """Return target_T_source at a time (see `TransformListener.lookup`)."""
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
        """Return the newest time of a chain (see `TransformListener.newest_ns`)."""
        try:
            return self._buffer.get_latest_common_time(target, source).nanoseconds or None  # 0: static all along
        except tf2_ros.TransformException:
            return None

    def frames(self) -> list[str]:
        """Return the names of all frames heard of."""
        return tf2_frames(self._buffer.all_frames_as_yaml())

    def forget_after(self, stamp_ns: int) -> None:
        """Forget every moving transform if one is later than a time, since tf2 cannot forget some."""
        if self._newest_ns is not None and self._newest_ns > stamp_ns:
            self.clear()


def tf2_frames(yaml: str) -> list[str]:
    """Return the frames of tf2's `all_frames_as_yaml`, with the parents, which have no entry of their own; sorted.

    Read by pattern, since frames may have names that are no YAML keys.
    """
    children = re.findall(r"^(\S.*?): *$", yaml, re.MULTILINE)
    parents = re.findall(r"^ +parent: *'?(.*?)'? *$", yaml, re.MULTILINE)
    return sorted({name.strip("'\"") for name in (*children, *parents)})
