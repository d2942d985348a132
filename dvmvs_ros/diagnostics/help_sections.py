# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Which section of the manual's troubleshooting page is about a diagnostic."""

from __future__ import annotations

PAGE = "docs/troubleshooting.md"

_SECTIONS = (
    ("stamps of both of one clock", "clocks-apart"),
    ("Poses do come, but are refused", "poses-refused"),
    ("poses refused", "poses-refused"),
    ("no image on", "no-image"),
    ("waiting for the first image", "no-image"),
    ("no camera_info on", "no-camera_info"),
    ("no usable camera_info", "no-camera_info"),
    ("no mask on", "mask-not-used"),
    ("a mask on", "mask-not-used"),
    ("images dropped in the last seconds", "images-dropped"),
    ("of the images are dropped", "images-dropped"),
    ("no pose on", "no-pose"),
    ("no transform from", "no-pose"),
    ("world_frame are both", "camera-in-its-own-frame"),
    ("contradict each other", "poses-contradict"),
    ("poses look unscaled", "poses-unscaled"),
    ("images are too far apart", "images-too-far-apart"),
    ("poses jump", "poses-jump"),
    ("pure rotation", "pure-rotation"),
    ("standing still", "standing-still"),
    ("tracking is lost", "tracking-lost"),
    ("old when it is published", "depth-late"),
    ("with one image", "depth-late"),
    ("slower than the camera", "depth-late"),
    ("something unforeseen happened", "something-unforeseen"),
    ("answer every image each", "two-nodes-of-one-name"),
)
"""(part of a message, heading of its section); the first that fits counts."""


def section_of(message: str) -> str | None:
    """Return the page and anchor that explain a diagnostic's message; None where nothing is wrong."""
    return next((f"{PAGE}#{anchor}" for part, anchor in _SECTIONS if part in message), None)
