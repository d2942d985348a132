# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Where the frames of a bag are at any time: from /tf and /tf_static, or from a topic of poses mounted by /tf_static.

Only transforms that belong to the images are read: those of /tf, and of topics named tf in a namespace around theirs. A
bag of several robots has frames of the same names in each.

Transforms are read alongside the images and forgotten behind them, so that their number in memory does not grow with
the bag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dvmvs_core.data.bags.bag_files import BagFiles, deserialise
from dvmvs_core.data.bags.bag_images import ImageTopic
from dvmvs_core.data.bags.bag_topics import BagTopics, belongs, nearest
from dvmvs_core.data.poses.contradictions import Contradictions
from dvmvs_core.data.poses.quaternion import Quaternion, Vector
from dvmvs_core.data.poses.transforms import TransformTree
from dvmvs_core.errors import DataError, MessageError, TransformError, TransformLookupError
from dvmvs_core.foreign import quoted

TRANSFORMS = "tf2_msgs/msg/TFMessage"
ODOMETRY, POSE_STAMPED = "nav_msgs/msg/Odometry", "geometry_msgs/msg/PoseStamped"
POSE_WITH_COVARIANCE = "geometry_msgs/msg/PoseWithCovarianceStamped"
POSE_TYPES = (ODOMETRY, POSE_STAMPED, POSE_WITH_COVARIANCE)
"""Types of poses, the better one first: an Odometry says what its pose is of."""

NOT_THE_ROBOT = ("goal", "initialpose")
"""Words in the names of topics of poses that are where the robot should be."""

TF, TF_STATIC = "tf", "tf_static"

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
        image_topic: topic of the images.
        image: what it holds.
        topics: what was asked for. A `pose_topic` takes the place of moving transforms, by default only where those do
            not lead to the camera; the world is `odom` if there is one, else the root of the tree.

    Attributes:
        world_frame: frame that poses are expressed in.
        pose_topic: the topic of poses, or None if they come from /tf.
        notes: sentences about what was refused or assumed.

    Raises:
        DataError: if nothing says where the camera is.
    """

    def __init__(self, files: BagFiles, image_topic: str, image: ImageTopic, topics: BagTopics) -> None:
        self.notes: list[str] = []
        self._files = files
        self._transform_topics, self._left_out = self._choose_transforms(image_topic, topics.tf_topic)
        self._camera_frame = image.frame_id.removeprefix("/")
        self._posed_frame: str | None = None
        self.pose_topic = None
        survey = self._survey()
        wanted = topics.pose_topic or (
            None if survey.moves(self._camera_frame) else _choose_pose_topic(files, image_topic)
        )
        if wanted is not None:
            self._take_poses(wanted, survey)
            survey = self._survey()
        self._check(survey)
        if survey.refused:
            self.notes.append(f"{files.path}: {survey.what_was_refused()}")
        if self._left_out:
            self.notes.append(f"{files.path}: {self._left_out}")
        self.world_frame = self._choose_world_frame(survey, topics.world_frame)
        self._check_publishers(survey)
        late_ns = survey.lateness_ns(self._camera_frame) - (image.log_ns - image.stamp_ns)
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
        return {*self._transform_topics, *((self.pose_topic,) if self.pose_topic else ())}

    def _choose_transforms(self, image_topic: str, wanted: str | None) -> tuple[set[str], str]:
        """The topics of transforms to read, and a sentence on those with moving ones that are left out."""
        topics = self._files.of_type(TRANSFORMS)
        moving = [topic for topic in topics if not _is_static(topic)]
        if wanted is not None and wanted not in topics:
            raise DataError(f"{self._path} has no {TRANSFORMS} on {wanted!r}; it has {', '.join(topics) or 'none'}")
        chosen = [wanted] if wanted else [t for t in moving if _leaf(t) == TF and belongs(t, image_topic)]
        if not chosen and len(moving) == 1:
            chosen = moving
            self.notes.append(f"{self._path}: transforms come from {moving[0]}, the only topic of moving ones")
        statics = {
            topic
            for topic in topics
            if _is_static(topic)
            and (belongs(topic, image_topic) or any(_space(topic) == _space(other) for other in chosen))
        }
        left = [topic for topic in moving if topic not in chosen]
        said = f"transforms of {', '.join(left)} are left out: they do not belong to {image_topic}; --tf-topic chooses"
        return {*chosen, *statics}, said if left else ""

    def _survey(self) -> _Survey:
        survey = _Survey()
        for edge in self._transforms(self._topics(), survey.refuse):
            survey.add(edge)
        return survey

    def _transforms(self, topics: set[str], refuse: Callable[[Exception], None] | None = None) -> Iterator[_Stamped]:
        """The transforms of some topics in the order of recording; tells `refuse` what could not be read."""
        for message in self._files.messages(topics):
            try:
                if message.topic == self.pose_topic:
                    yield self._pose(message.log_ns, message.data)
                    continue
                edges = _transforms_of(message.log_ns, message.data, _is_static(message.topic))
                yield from (edge for edge in edges if edge.child != self._posed_frame)
            except MessageError as error:
                if refuse is not None:
                    refuse(error)

    def _pose(self, log_ns: int, data: bytes) -> _Stamped:
        message_type = self._files.topics[self.pose_topic].message_type
        message = deserialise(data, message_type)
        pose = message.pose if message_type == POSE_STAMPED else message.pose.pose
        p, q = pose.position, pose.orientation
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        parent = message.header.frame_id.removeprefix("/")
        return _Stamped(
            log_ns, parent, self._posed_frame, stamp_ns, (p.x, p.y, p.z), (q.x, q.y, q.z, q.w), static=False
        )

    def _take_poses(self, topic: str, survey: _Survey) -> None:
        """Take the camera's moving pose from a topic of poses."""
        known = self._files.topics.get(topic)
        if known is None or known.message_type not in POSE_TYPES or not known.count:
            available = [name for message_type in POSE_TYPES for name in self._files.of_type(message_type)]
            raise DataError(
                f"{self._path} has no {' or '.join(POSE_TYPES)} on {topic!r};"
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
        why = "there is none"
        for message in self._files.messages({topic}):
            try:
                return deserialise(message.data, message_type)
            except MessageError as error:
                why = str(error)
        raise DataError(f"{self._path}: no message on {topic} can be read; the last: {why}")

    def _check(self, survey: _Survey) -> None:
        if not survey.moving:
            found = "only static ones" if survey.tree.frames() else "no transform"
            raise DataError(
                f"{self._path} must hold moving transforms on /tf for the camera's pose, or a topic of type"
                f" {' or '.join(POSE_TYPES)}; it holds {found}{self._reasons(survey)}"
            )

    def _check_publishers(self, survey: _Survey) -> None:
        """Refuse poses that are two streams in one, and say where they are in part."""
        found = survey.contradictions.between(self.world_frame, self._camera_frame)
        if found is None:
            return
        senders = sorted({sender for topic in self._topics() for sender in self._files.senders(topic)})
        said = f"{self._path}: {found.said}" + (f" (published by {', '.join(senders)})" if senders else "")
        if found.mixed:
            raise DataError(f"{said}. --pose-topic takes poses from elsewhere")
        self.notes.append(said)

    def _reasons(self, survey: _Survey) -> str:
        """What was found on the way and may be why nothing leads to the camera."""
        return "".join(f"; {said}" for said in (survey.what_was_refused(), self._left_out) if said)

    def _choose_world_frame(self, survey: _Survey, wanted: str | None) -> str:
        frames, camera = survey.tree.frames(), self._camera_frame
        if wanted is not None:
            if wanted.removeprefix("/") not in frames:
                raise DataError(f"{self._path} has no frame {wanted!r}; it has {', '.join(frames)}")
            return wanted
        if camera not in frames:
            raise DataError(
                f"{self._path}: no transform leads to {camera!r}, the frame_id of the images;"
                f" transforms join {', '.join(frames)}{self._reasons(survey)}"
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
        self._log_ns = 0
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
        self._log_ns = log_ns
        pending = chain([self._next] if self._next else [], self._moving)
        self._next = None
        for edge in pending:
            if edge.log_ns > log_ns + self._lookahead_ns:
                self._next = edge
                return
            _add(self._tree, edge)

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """Return target_T_source (4, 4) float64; raises as `TransformTree.lookup`."""
        try:
            return self._tree.lookup(target, source, stamp_ns)
        except TransformLookupError as error:
            if self._next is None:
                raise
            later_s = (self._next.log_ns - self._log_ns) * 1e-9
            raise TransformLookupError(
                f"the transforms so far do not lead from {quoted(source)} to {quoted(target)}, and the next one"
                f" was recorded {later_s:.1f} s after it; at most {self._lookahead_ns * 1e-9:.0f} s are bridged"
            ) from error


class _Survey:
    """What joins the frames of a bag, without the transforms themselves."""

    def __init__(self) -> None:
        self.tree = TransformTree(SURVEY_CACHE_S)
        self.contradictions = Contradictions()
        self.moving: set[str] = set()
        self.refused = 0
        self._why = ""
        self._parents: dict[str, str] = {}
        self._lateness_ns: dict[str, int] = {}

    def add(self, edge: _Stamped) -> None:
        try:
            _set(self.tree, edge)
        except TransformError as error:
            self.refuse(error)
            return
        self.contradictions.add(*edge[1:])
        self._parents[edge.child] = edge.parent
        if not edge.static:
            self.moving.add(edge.child)
            late_ns = edge.log_ns - edge.stamp_ns
            self._lateness_ns[edge.child] = max(late_ns, self._lateness_ns.get(edge.child, late_ns))

    def refuse(self, error: Exception) -> None:
        """Count a transform that cannot be used, and why."""
        self.refused += 1
        self._why = str(error)

    def what_was_refused(self) -> str:
        """A sentence on the transforms that cannot be used; empty if all can."""
        return f"{self.refused} transforms or poses were refused; the last: {self._why}" if self.refused else ""

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
    return topic.endswith(TF_STATIC)


def _leaf(topic: str) -> str:
    return topic.rpartition("/")[2]


def _space(topic: str) -> str:
    return topic.rpartition("/")[0]


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


def _choose_pose_topic(files: BagFiles, image_topic: str) -> str | None:
    """The topic of the camera's or robot's poses, and only if there is one; a goal is not where the robot is."""
    for message_type in POSE_TYPES:
        topics = [topic for topic in files.of_type(message_type) if files.topics[topic].count > 1]
        topics = [topic for topic in topics if not any(word in topic for word in NOT_THE_ROBOT)]
        topics = nearest(topics, image_topic)
        if len(topics) > 1:
            raise DataError(
                f"{files.path} has no moving transform that leads to the camera, and several topics of poses,"
                f" {', '.join(topics)}: name one with --pose-topic"
            )
        if topics:
            return topics[0]
    return None
