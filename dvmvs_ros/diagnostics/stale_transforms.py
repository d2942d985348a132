# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Whether transforms or poses are stale: none has fitted an image for too long, and why, as far as can be told."""

from __future__ import annotations

from dvmvs_core.errors import TransformError
from dvmvs_ros.depth.input_watch import Input
from dvmvs_ros.depth.inputs import Inputs
from dvmvs_ros.diagnostics.topic_hints import TopicHints
from dvmvs_ros.poses.pose_messages import PoseMessages

FRAMES_NAMED = 12

SILENT_S = 2.0
"""Poses come many times a second; after so long without any, they have stopped."""

CLOCKS_APART_S = 60.0
"""Poses that are this far from the images in time are not late: one of the two has another clock."""


def stale_transforms(inputs: Inputs, world: str, timeout_s: float, hints: TopicHints) -> str:
    """Return what is wrong with poses, for a person; empty while images get theirs.

    Args:
        inputs: what the node listens to.
        world: the frame of the poses of TF.
        timeout_s: silence after which they are stale.
        hints: explains why nothing comes on a topic.
    """
    if inputs.watch.missing(timeout_s) is not Input.POSE:
        return ""
    camera, transforms = inputs.camera_frame, inputs.transforms
    silence_s = inputs.watch.silence_s(Input.POSE)
    if isinstance(transforms, PoseMessages) and not transforms.heard:
        why = hints.explain_silence(transforms.subscription)
        return f"no pose on {transforms.topic} for {silence_s:.0f} s. {why}"
    frames = transforms.frames()
    named = ", ".join(frames[:FRAMES_NAMED]) if frames else "none, nothing comes on /tf and /tf_static"
    more = len(frames) - FRAMES_NAMED
    text = (
        f"no transform from {camera!r} to {world!r} for {silence_s:.0f} s; frames known: {named}"
        f"{f' and {more} more' if more > 0 else ''}"
    )
    newest_ns = transforms.newest_ns(world, camera)
    if newest_ns is None and inputs.admission.recent:
        newest_ns = inputs.admission.latest_stamp_ns
    if newest_ns is not None and abs(apart_s := (newest_ns - inputs.stamp_ns) * 1e-9) > CLOCKS_APART_S:
        return (
            f"{text}. The newest is {abs(apart_s):.0f} s {'after' if apart_s > 0 else 'before'} the last image: are"
            " the stamps of both of one clock? See use_sim_time, and the clocks of the computers"
        )
    text += _since_when(inputs)
    try:
        transforms.lookup(world, camera, inputs.stamp_ns)
    except TransformError as error:
        return f"{text}. {error}"
    return text


def _since_when(inputs: Inputs) -> str:
    """Whether poses come at all, and are of no use, or have stopped."""
    silence_s = inputs.admission.silence_s
    if silence_s is None:
        return ""
    if silence_s > SILENT_S:
        return f". Poses have stopped coming {silence_s:.0f} s ago"
    refused = inputs.admission.recent
    return f". Poses do come, but are refused: {refused}" if refused else ". Poses do come, but not for this time"
