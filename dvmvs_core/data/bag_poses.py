# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where the frames of a bag are at any time: from /tf and /tf_static, or from a topic of poses mounted by /tf_static.

Transforms are read alongside the images and forgotten behind them, so that their number in memory does not grow with
the bag.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dvmvs_core.data.bag_files import BagFiles, deserialise
from dvmvs_core.data.quaternion import Quaternion, Vector
from dvmvs_core.data.transforms import TransformTree
from dvmvs_core.errors import DataError, MessageError, TransformError

TRANSFORMS = "tf2_msgs/msg/TFMessage"
ODOMETRY, POSE_STAMPED = "nav_msgs/msg/Odometry", "geometry_msgs/msg/PoseStamped"

PREFERRED_WORLD_FRAME = "odom"
"""By REP 105 `odom` is continuous and `map` may jump, which would tear keyframes apart."""

LOOKAHEAD_NS = 10 * 10**9
"""How far beyond an image transforms are read, and so the longest gap that is interpolated across; tf2 keeps 10 s.
Transforms recorded later after their stamps than the images are waited for that much longer."""

SURVEY_CACHE_S = 10.0


class _Stamped(NamedTuple):
    """One transform parent_T_child of a bag, and when it was recorded."""

    log_ns: int
    parent: str
    child: str
    stamp_ns: int
    translation: Vector
    rotation: Quaternion
    static: bool


class BagPoses:
    """The transforms of a bag.

    Args:
        files: the bag.
        camera_frame: frame_id of the images.
        image_lateness_ns: how long after its stamp an image was recorded.
        pose_topic: an Odometry or PoseStamped topic in place of moving transforms; by default only where those do not
            lead to the camera.
        world_frame: frame that poses are expressed in; None for `odom` if there is one, else the root of the tree.

    Attributes:
        world_frame: frame that poses are expressed in.
        pose_topic: the topic of poses, or None if they come from /tf.
        notes: sentences about what was refused or assumed.

    Raises:
        DataError: if nothing says where the camera is.
    """

    def __init__(
        self,
        files: BagFiles,
        camera_frame: str,
        image_lateness_ns: int = 0,
        pose_topic: str | None = None,
        world_frame: str | None = None,
    ) -> None:
        self.notes: list[str] = []
        self._files = files
        self._camera_frame = camera_frame.removeprefix("/")
        self._posed_frame: str | None = None
        self.pose_topic = None
        survey = self._survey()
        wanted = pose_topic or (None if survey.moves(self._camera_frame) else _choose_pose_topic(files))
        if wanted is not None:
            self._take_poses(wanted, survey)
            survey = self._survey()
        self._check(survey)
        self.notes += [f"{files.path}: some transforms were refused, the last because {r}" for r in survey.refused[-1:]]
        self.world_frame = self._choose_world_frame(survey, world_frame)
        late_ns = survey.lateness_ns(self._camera_frame) - image_lateness_ns
        self._lookahead_ns = LOOKAHEAD_NS + max(0, late_ns)

    @property
    def _path(self) -> Path:
        return self._files.path

    def stream(self) -> PoseStream:
        """Return lookups for one pass through the images."""
        topics = self._topics()
        statics = {topic for topic in topics if _is_static(topic)}
        return PoseStream(self._transforms(statics), self._transforms(topics - statics), self._lookahead_ns)

    def _topics(self) -> set[str]:
        return {*self._files.of_type(TRANSFORMS), *((self.pose_topic,) if self.pose_topic else ())}

    def _survey(self) -> _Survey:
        survey = _Survey()
        for edge in self._transforms(self._topics(), survey.refused):
            survey.add(edge)
        return survey

    def _transforms(self, topics: set[str], refused: list[str] | None = None) -> Iterator[_Stamped]:
        """The transforms of some topics in the order of recording; says in `refused` what could not be read."""
        for message in self._files.messages(topics):
            try:
                if message.topic == self.pose_topic:
                    yield self._pose(message.log_ns, message.data)
                    continue
                edges = _transforms_of(message.log_ns, message.data, _is_static(message.topic))
                yield from (edge for edge in edges if edge.child != self._posed_frame)
            except MessageError as error:
                if refused is not None:
                    refused[:] = [str(error)]

    def _pose(self, log_ns: int, data: bytes) -> _Stamped:
        message_type = self._files.topics[self.pose_topic].message_type
        message = deserialise(data, message_type)
        pose = message.pose.pose if message_type == ODOMETRY else message.pose
        p, q = pose.position, pose.orientation
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        parent = message.header.frame_id.removeprefix("/")
        return _Stamped(
            log_ns, parent, self._posed_frame, stamp_ns, (p.x, p.y, p.z), (q.x, q.y, q.z, q.w), static=False
        )

    def _take_poses(self, topic: str, survey: _Survey) -> None:
        """Take the camera's moving pose from a topic of poses."""
        known = self._files.topics.get(topic)
        if known is None or known.message_type not in (ODOMETRY, POSE_STAMPED) or not known.count:
            available = (*self._files.of_type(ODOMETRY), *self._files.of_type(POSE_STAMPED))
            raise DataError(
                f"{self._path} has no {ODOMETRY} or {POSE_STAMPED} on {topic!r};"
                f" it has {', '.join(available) or 'no topic of these types'}"
            )
        first = self._first(topic, known.message_type)
        parent = first.header.frame_id.removeprefix("/")
        child = first.child_frame_id.removeprefix("/") if known.message_type == ODOMETRY else ""
        if child:
            self.notes.append(f"{self._path}: poses come from {topic}, as those of {child!r} in {parent!r}")
        else:
            lineage = [frame for frame in survey.lineage(self._camera_frame) if frame != parent]
            child = lineage[-1]
            self.notes.append(
                f"{self._path}: poses come from {topic}, which does not say of what; they are taken as those of"
                f" {child!r} in {parent!r}"
            )
        self.pose_topic, self._posed_frame = topic, child

    def _first(self, topic: str, message_type: str):
        for message in self._files.messages({topic}):
            try:
                return deserialise(message.data, message_type)
            except MessageError:
                continue
        raise DataError(f"{self._path}: no message on {topic} could be read")

    def _check(self, survey: _Survey) -> None:
        if not survey.moving:
            found = "only static ones" if survey.tree.frames() else "no transform"
            raise DataError(
                f"{self._path} must hold moving transforms on /tf for the camera's pose, or a topic of type {ODOMETRY}"
                f" or {POSE_STAMPED}; it holds {found}"
            )

    def _choose_world_frame(self, survey: _Survey, wanted: str | None) -> str:
        frames, camera = survey.tree.frames(), self._camera_frame
        if wanted is not None:
            if wanted.removeprefix("/") not in frames:
                raise DataError(f"{self._path} has no frame {wanted!r}; it has {', '.join(frames)}")
            return wanted
        if camera not in frames:
            raise DataError(
                f"{self._path}: no transform leads to {camera!r}, the frame_id of the images;"
                f" transforms join {', '.join(frames)}"
            )
        root = survey.tree.root(camera)
        if PREFERRED_WORLD_FRAME in frames and survey.tree.root(PREFERRED_WORLD_FRAME) == root:
            return PREFERRED_WORLD_FRAME
        if root == camera:
            raise DataError(
                f"{self._path}: {camera!r} is itself the root of its tree, so the world frame is not plain;"
                f" name one of {', '.join(frames)} with --world-frame"
            )
        return root


class PoseStream:
    """Lookups in the order of the images, which read transforms as far as they need them.

    Args:
        statics: transforms that hold at every time.
        moving: the others, in the order of recording.
        lookahead_ns: how far beyond an image they are read.
    """

    def __init__(self, statics: Iterator[_Stamped], moving: Iterator[_Stamped], lookahead_ns: int) -> None:
        self._tree = TransformTree()
        self._moving = moving
        self._next: _Stamped | None = None
        self._lookahead_ns = lookahead_ns
        for edge in statics:
            _add(self._tree, edge)

    def advance(self, log_ns: int, stamp_ns: int) -> None:
        """Go on to an image: read what was recorded up to the lookahead after it, and forget what lies behind it.

        Args:
            log_ns: when the image was recorded.
            stamp_ns: its stamp; no later lookup may be before it by more than a second.
        """
        self._tree.forget_before(stamp_ns - 10**9)
        pending = chain([self._next] if self._next else [], self._moving)
        self._next = None
        for edge in pending:
            if edge.log_ns > log_ns + self._lookahead_ns:
                self._next = edge
                return
            _add(self._tree, edge)

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """Return target_T_source (4, 4) float64; raises as `TransformTree.lookup`."""
        return self._tree.lookup(target, source, stamp_ns)


class _Survey:
    """What joins the frames of a bag, without the transforms themselves."""

    def __init__(self) -> None:
        self.tree = TransformTree(SURVEY_CACHE_S)
        self.moving: set[str] = set()
        self.refused: list[str] = []
        self._parents: dict[str, str] = {}
        self._lateness_ns: dict[str, int] = {}

    def add(self, edge: _Stamped) -> None:
        try:
            _set(self.tree, edge)
        except TransformError as error:
            self.refused[:] = [str(error)]
            return
        self._parents[edge.child] = edge.parent
        if not edge.static:
            self.moving.add(edge.child)
            late_ns = edge.log_ns - edge.stamp_ns
            self._lateness_ns[edge.child] = max(late_ns, self._lateness_ns.get(edge.child, late_ns))

    def lineage(self, frame: str) -> list[str]:
        """The frame and its ancestors."""
        lineage = [frame]
        while (parent := self._parents.get(lineage[-1])) and parent not in lineage:
            lineage.append(parent)
        return lineage

    def moves(self, frame: str) -> bool:
        """Whether a moving transform leads to the frame."""
        return not self.moving.isdisjoint(self.lineage(frame))

    def lateness_ns(self, frame: str) -> int:
        """How long after its stamp a transform that leads to the frame was recorded at most."""
        return max((self._lateness_ns[f] for f in self.lineage(frame) if f in self.moving), default=0)


def _is_static(topic: str) -> bool:
    return topic.endswith("tf_static")


def _transforms_of(log_ns: int, data: bytes, static: bool) -> Iterator[_Stamped]:
    for stamped in deserialise(data, TRANSFORMS).transforms:
        t, q = stamped.transform.translation, stamped.transform.rotation
        yield _Stamped(
            log_ns,
            stamped.header.frame_id.removeprefix("/"),
            stamped.child_frame_id.removeprefix("/"),
            stamped.header.stamp.sec * 10**9 + stamped.header.stamp.nanosec,
            (t.x, t.y, t.z),
            (q.x, q.y, q.z, q.w),
            static,
        )


def _set(tree: TransformTree, edge: _Stamped) -> None:
    tree.set_transform(edge.parent, edge.child, edge.stamp_ns, edge.translation, edge.rotation, edge.static)


def _add(tree: TransformTree, edge: _Stamped) -> None:
    try:
        _set(tree, edge)
    except TransformError:
        pass  # the survey has said so


def _choose_pose_topic(files: BagFiles) -> str | None:
    """The topic of the camera's or robot's poses, and only if there is one; a goal is not where the robot is."""
    for message_type in (ODOMETRY, POSE_STAMPED):
        topics = [t for t in files.of_type(message_type) if "goal" not in t and files.topics[t].count > 1]
        if len(topics) > 1:
            raise DataError(
                f"{files.path} has no moving transform that leads to the camera, and several topics of poses,"
                f" {', '.join(topics)}: name one with --pose-topic"
            )
        if topics:
            return topics[0]
    return None
