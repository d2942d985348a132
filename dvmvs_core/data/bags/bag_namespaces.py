# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Which topics of a bag belong together: those of one robot or camera share the beginning of their names."""

from __future__ import annotations

from collections.abc import Collection


def belongs(topic: str, image_topic: str) -> bool:
    """Return whether a topic is of the namespace of some images, or of one around it: /tf and /robot1/tf are for
    /robot1/camera/image, and /robot2/tf is not.
    """
    space = _parts(topic)[:-1]
    return _parts(image_topic)[: len(space)] == space


def nearest(topics: Collection[str], image_topic: str) -> list[str]:
    """Return those of some topics that share the longest beginning with the topic of images."""
    most = max((_shared(topic, image_topic) for topic in topics), default=0)
    return [topic for topic in topics if _shared(topic, image_topic) == most]


def strangers(topic: str, image_topic: str) -> bool:
    """Return whether two topics share no beginning at all, though both are in a namespace."""
    return len(_parts(topic)) > 1 and len(_parts(image_topic)) > 1 and not _shared(topic, image_topic)


def _shared(topic: str, other: str) -> int:
    pairs = zip(_parts(topic)[:-1], _parts(other)[:-1], strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(_parts(topic)), len(_parts(other))) - 1)


def _parts(topic: str) -> list[str]:
    return topic.strip("/").split("/")
