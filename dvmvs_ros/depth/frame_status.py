# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`~/frame_status`: one message for each image, saying what became of it.

A player waits for it before it sends the next image (lockstep), and whoever wonders why there is no depth finds the
reason. It is a DiagnosticArray, since that carries a stamp (the image's) and needs no message package of our own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from dvmvs_core.errors import MessageError
from dvmvs_core.foreign import foreign
from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_core.types import DepthPrediction
from dvmvs_ros.depth.frame_timeline import DropReason, FrameTimeline
from dvmvs_ros.messages.conversions import ns_to_stamp, stamp_to_ns


@dataclass(frozen=True)
class FrameStatus:
    """What became of one image.

    Attributes:
        stamp_ns: the image's stamp.
        outcome: the engine's decision, or the reason why the image never reached it.
        detail: a sentence for a person; empty if there is nothing to say.
        index: running number of the images that the node received.
        latency_ms: from the image's arrival at the node to now.
        inference_ms: the part of it that the engine took; 0 without a prediction.
        measurement_stamps_ns: stamps of the measurement frames, best first; empty without a prediction.
        has_depth: whether it got depth: every keyframe, and with depth_for every_image those between.
    """

    stamp_ns: int
    outcome: KeyframeDecision | DropReason
    detail: str = ""
    index: int = -1
    latency_ms: float = 0.0
    inference_ms: float = 0.0
    measurement_stamps_ns: tuple[int, ...] = ()
    has_depth: bool = False

    @property
    def dropped(self) -> bool:
        """Whether the image never got an answer from the engine."""
        return isinstance(self.outcome, DropReason)

    @classmethod
    def of(cls, timeline: FrameTimeline, detail: str, prediction: DepthPrediction | None) -> FrameStatus:
        """Return what became of an image by its timeline, until now."""
        status = cls(timeline.stamp_ns, timeline.outcome, detail, timeline.index, timeline.age_ms)
        if prediction is None:
            return status
        return replace(
            status,
            inference_ms=prediction.latency_ms,
            measurement_stamps_ns=prediction.measurement_stamps_ns,
            has_depth=True,
        )

    def to_message(self) -> DiagnosticArray:
        """Return it as a message."""
        outcome = self.outcome.value if self.dropped else self.outcome.name.lower()
        values = {
            "index": self.index,
            "latency_ms": f"{self.latency_ms:.3f}",
            "inference_ms": f"{self.inference_ms:.3f}",
            "measurement_stamps_ns": " ".join(map(str, self.measurement_stamps_ns)),
            "has_depth": str(self.has_depth).lower(),
            "detail": self.detail,
        }
        message = DiagnosticArray(
            status=[
                DiagnosticStatus(
                    level=DiagnosticStatus.WARN if self.dropped else DiagnosticStatus.OK,
                    name="frame",
                    message=outcome,
                    values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
                )
            ]
        )
        message.header.stamp = ns_to_stamp(self.stamp_ns)
        return message

    @classmethod
    def from_message(cls, message: DiagnosticArray) -> FrameStatus:
        """Read what `to_message` wrote.

        Raises:
            MessageError: if something else wrote it.
        """
        with foreign("it is no status of a frame", MessageError):
            status = message.status[0]
            values = {item.key: item.value for item in status.values}
            reasons = {reason.value: reason for reason in DropReason}
            outcome = reasons.get(status.message) or KeyframeDecision[status.message.upper()]
            return cls(
                stamp_ns=stamp_to_ns(message.header.stamp),
                outcome=outcome,
                detail=values["detail"],
                index=int(values["index"]),
                latency_ms=float(values["latency_ms"]),
                inference_ms=float(values["inference_ms"]),
                measurement_stamps_ns=tuple(map(int, values["measurement_stamps_ns"].split())),
                has_depth=values["has_depth"] == "true",
            )
