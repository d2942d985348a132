# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Camera poses out of Odometry messages or poses, with covariance or without, as a transform buffer gives them.

For whoever runs visual odometry or SLAM that publishes its pose but no TF. Poses are interpolated between messages and
never extrapolated, as transforms are; where the camera sits on the body comes from TF.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from scipy.spatial.transform import Rotation

from dvmvs_core.data.poses.contradictions import Contradictions
from dvmvs_core.data.poses.transforms import TransformTree
from dvmvs_core.errors import ConfigError, TransformConnectivityError, TransformError, TransformLookupError
from dvmvs_core.foreign import quoted
from dvmvs_ros.messages.conversions import stamp_to_ns
from dvmvs_ros.poses.pose_admission import PoseAdmission
from dvmvs_ros.poses.transform_listener import TransformListener
from dvmvs_ros.process.qos import subscription_qos

CAMERA = "camera"
"""Name for the body of poses that are the camera's own, whatever its frame is called."""

MIN_QUATERNION, MAX_QUATERNION = 0.1, 10.0
"""Lengths of a quaternion that a person may write for one of length 1, such as 1 1 1 1."""


class PoseMessages:
    """Poses of a topic, used as a `TransformListener` is, whose target is ignored: the poses' own frame is the world.

    Args:
        node: the node to subscribe with.
        message_type: Odometry, PoseStamped or PoseWithCovarianceStamped.
        topic: where they come from.
        body_frame: the frame whose pose they are; empty for an Odometry's child_frame_id, and otherwise the camera.
        cache_s: how far back poses are remembered, seconds.
        body_T_camera: (4, 4), or None to take it from TF.
        transforms: TF; closed and cleared together with this.
        on_change: called after each message.
        warn: called with a line for each pose that had to be refused.
        admission: says which are believed; None for all.
    """

    def __init__(
        self,
        node: Node,
        message_type: type[Odometry] | type[PoseStamped] | type[PoseWithCovarianceStamped],
        topic: str,
        body_frame: str,
        cache_s: float,
        body_T_camera: np.ndarray | None,
        transforms: TransformListener,
        on_change: Callable[[], None],
        warn: Callable[[str], None],
        admission: PoseAdmission | None = None,
    ) -> None:
        self._node = node
        self._admission = admission or PoseAdmission(cache_s, now_ns=lambda: 0)
        self._body_frame = body_frame
        self._body_T_camera = body_T_camera
        self._transforms = transforms
        self._on_change = on_change
        self._warn = warn
        self._tree = TransformTree(cache_s)
        self._contradictions = Contradictions("poses")
        self._edge: tuple[str, str] | None = None
        # Best effort listens to publishers of either kind, and a pose that is lost is between two others.
        self._subscription = node.create_subscription(
            message_type,
            topic,
            self._on_pose,
            **subscription_qos(node, topic, QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT), warn),
        )

    @property
    def subscription(self) -> Subscription:
        """Where the poses come from."""
        return self._subscription

    @property
    def heard(self) -> bool:
        """Whether any pose has come."""
        return self._edge is not None

    @property
    def topic(self) -> str:
        """The topic, with namespace and remapping."""
        return self._subscription.topic_name

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """Return world_T_camera (4, 4) at a time, for the camera's frame as `source` (see `TransformListener`)."""
        if self._edge is None:
            raise TransformLookupError(f"no pose has come on {self.topic}. Is it published?")
        world, body = self._edge
        world_T_body = self._tree.lookup(world, body, stamp_ns)
        if self._body_T_camera is not None:
            return world_T_body @ self._body_T_camera
        if body in (CAMERA, source):
            return world_T_body
        return world_T_body @ self._body_T_camera_of_tf(body, source, stamp_ns)

    def newest_ns(self, target: str, source: str) -> int | None:
        """Return the time of the newest pose; None before the first."""
        return self._tree.newest_ns(*self._edge) if self._edge else None

    def frames(self) -> list[str]:
        """Return the frames of the poses and of TF, sorted."""
        return sorted({*(self._edge or ()), *self._transforms.frames()})

    def contradiction(self, target: str, source: str) -> str:
        """Return what several publishers say of one pose (see `TransformListener.contradiction`)."""
        if self._edge is None:
            return ""
        found = self._contradictions.between(self._edge[0], self.topic, of_late=True)
        return found.said if found else self._transforms.contradiction(self._edge[1], source)

    def clear(self) -> None:
        """Forget every pose and every moving transform."""
        self._contradictions.clear()
        self._tree.clear()
        self._transforms.clear()

    def forget_after(self, stamp_ns: int) -> None:
        """Forget poses and moving transforms that are later than a time."""
        self._tree.forget_after(stamp_ns)
        self._transforms.forget_after(stamp_ns)

    def close(self) -> None:
        """Stop listening."""
        self._node.destroy_subscription(self._subscription)
        self._transforms.close()

    def _body_T_camera_of_tf(self, body: str, camera: str, stamp_ns: int) -> np.ndarray:
        try:
            return self._transforms.lookup(body, camera, stamp_ns)
        except (TransformLookupError, TransformConnectivityError) as error:
            raise type(error)(f"{error} Or give the camera's place on {body!r} by the parameter mounting") from error

    def _on_pose(self, message: Odometry | PoseStamped | PoseWithCovarianceStamped) -> None:
        pose = message.pose if isinstance(message, PoseStamped) else message.pose.pose
        said = message.child_frame_id if isinstance(message, Odometry) else ""
        body = self._body_frame or said or CAMERA
        p, q = pose.position, pose.orientation
        # A slash in front, as old drivers write it, is no part of a name; the tree drops it too.
        edge = (message.header.frame_id.removeprefix("/") or "world", body.removeprefix("/"))
        self._admission.hear()
        stamp_ns = stamp_to_ns(message.header.stamp)
        try:
            place = (p.x, p.y, p.z), (q.x, q.y, q.z, q.w)
            self._admission.admit(edge[1], stamp_ns, partial(self._tree.set_transform, *edge, stamp_ns, *place))
        except TransformError as error:
            self._admission.note_refused(str(error))
            self._warn(f"a pose of {self.topic} was ignored: {error}")
        else:
            self._edge = edge
            # Under the topic's name, since two publishers may name different bodies.
            self._contradictions.add(f"{edge[0]} → {said}" if said else edge[0], self.topic, stamp_ns, *place)
        self._on_change()


def parse_body_T_camera(text: str) -> np.ndarray:
    """Return body_T_camera (4, 4) from numbers between spaces or commas.

    Args:
        text: "x y z roll pitch yaw", metres and radians about fixed axes, as in URDF's `origin`; or
            "x y z qx qy qz qw".

    Raises:
        ConfigError: if it is neither.
    """
    try:
        numbers = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) not in (6, 7) or not np.isfinite(numbers).all():
        raise ConfigError(f"mounting must be 'x y z roll pitch yaw' or 'x y z qx qy qz qw'; got {quoted(text)}")
    turn = numbers[3:]
    if len(turn) == 4 and not MIN_QUATERNION < np.hypot.reduce(turn) < MAX_QUATERNION:
        raise ConfigError(f"mounting's quaternion must have length 1; got {turn}")
    body_T_camera = np.eye(4)
    rotation = Rotation.from_quat(turn) if len(turn) == 4 else Rotation.from_euler("xyz", turn)
    body_T_camera[:3, :3] = rotation.as_matrix()
    body_T_camera[:3, 3] = numbers[:3]
    return body_T_camera
