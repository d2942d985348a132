# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which images get depth: keyframes, or every image, at most so many a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from dvmvs_core.keyframes import KeyframeDecision
from dvmvs_core.types import DepthPrediction, Frame
from dvmvs_ros.depth.config import LiveConfig
from dvmvs_ros.depth.settings import EVERY_IMAGE

if TYPE_CHECKING:
    from dvmvs_core.engine import DepthEngine


class RateLimit:
    """Lets every stamp through that comes long enough after the last one let through; a jump back starts again."""

    def __init__(self) -> None:
        self._last_ns: int | None = None

    def allows(self, stamp_ns: int, max_rate_hz: float) -> bool:
        """Return whether this one may pass, and remember it if so.

        A hundredth of the period is forgiven, so that a camera of just that rate passes whole.

        Args:
            stamp_ns: the image's time.
            max_rate_hz: the highest rate; 0 lets everything pass.
        """
        if max_rate_hz > 0 and self._last_ns is not None:
            least_ns = 0.99e9 / max_rate_hz
            if 0 <= stamp_ns - self._last_ns < least_ns:
                return False
        self._last_ns = stamp_ns
        return True


class FrameAnswer(NamedTuple):
    """What the engine said of one frame.

    Attributes:
        decision: of the keyframe rule.
        prediction: depth, or None.
    """

    decision: KeyframeDecision
    prediction: DepthPrediction | None

    @property
    def is_keyframe(self) -> bool:
        """Whether later depth builds on this one."""
        return self.prediction is not None and self.decision is KeyframeDecision.KEYFRAME


class Estimator:
    """Runs the engine on one frame after the other.

    Every frame goes through the keyframe rule, which costs nothing; so the keyframes are the same whether the images
    between them get depth or not. Such an image is left out while a newer one waits.

    Args:
        engine: takes the frames.
        newer_waits: tells whether a newer frame waits already.
    """

    def __init__(self, engine: DepthEngine, newer_waits: Callable[[], bool]) -> None:
        self._engine = engine
        self._newer_waits = newer_waits
        self._between_keyframes = RateLimit()

    def __call__(self, frame: Frame, config: LiveConfig, wants_depth: bool, wants_confidence: bool) -> FrameAnswer:
        """Return the decision on a frame, and its depth if it gets one.

        Args:
            frame: the next frame in the order of time.
            config: what holds now.
            wants_depth: whether anybody would see depth between keyframes. Keyframes are always worked out, since
                those to come build on them.
            wants_confidence: whether anybody needs confidence.
        """
        engine = self._engine
        engine.set_keyframe_rule(config.keyframes)
        engine.estimates_confidence = config.confidence and wants_confidence
        prediction = engine.step(frame)
        decision = engine.last_decision
        if decision is KeyframeDecision.TOO_CLOSE and wants_depth and self._is_next(frame, config):
            prediction = engine.predict_without_update(frame)
        return FrameAnswer(decision, prediction)

    def _is_next(self, frame: Frame, config: LiveConfig) -> bool:
        if config.depth_for != EVERY_IMAGE or self._newer_waits():
            return False
        return self._between_keyframes.allows(frame.stamp_ns, config.max_rate_hz)
