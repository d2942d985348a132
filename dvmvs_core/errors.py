# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""One exception per kind of failure that a user can fix.

Every message says what was expected, what came, and what to do. The command line prints it as one line and exits
with code 1; the node logs it and lives on. Anything else that is raised is a defect of ours and keeps its traceback.
"""

from __future__ import annotations


class DvmvsError(Exception):
    """Base of every failure that a user can fix."""


class ConfigError(DvmvsError):
    """A setting has an unknown name, the wrong type or a value outside its range."""


class DeviceError(DvmvsError):
    """The requested compute device or precision is not available on this machine."""


class PackageError(DvmvsError):
    """An optional package that a command needs is not installed, or cannot be loaded."""


class FrameError(DvmvsError):
    """An image, its intrinsics or its pose cannot be used as a frame."""


class DataError(DvmvsError):
    """A scene folder, a bag or a training set is missing a part or holds a broken one."""


class DamagedError(DvmvsError):
    """Bytes are not what they should be; whoever read them knows where they came from, and says so in another error."""


class WeightsError(DvmvsError):
    """A weights file is broken, or does not fit the network that it should fill."""


class MessageError(DvmvsError):
    """A ROS message contradicts itself or uses an encoding that is not supported."""


class TransformError(DvmvsError):
    """The transform between two coordinate frames at a time is not known."""


class TransformLookupError(TransformError):
    """A coordinate frame has never been heard of."""


class TransformConnectivityError(TransformError):
    """Two coordinate frames belong to trees that no transform connects."""


class TransformExtrapolationError(TransformError):
    """The time asked for is outside what was received on an edge of the chain.

    Attributes:
        stamp_ns: the time asked for, or None when the error does not concern one time.
        oldest_ns: the oldest time known on the edge that failed.
        newest_ns: the newest time known on the edge that failed.
    """

    def __init__(
        self,
        message: str,
        stamp_ns: int | None = None,
        oldest_ns: int | None = None,
        newest_ns: int | None = None,
    ) -> None:
        super().__init__(message)
        self.stamp_ns = stamp_ns
        self.oldest_ns = oldest_ns
        self.newest_ns = newest_ns

    @property
    def may_come(self) -> bool:
        """Whether waiting can help: the time asked for is not older than everything that is known."""
        return None in (self.stamp_ns, self.oldest_ns) or self.stamp_ns >= self.oldest_ns


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind where it has none: CUDA's go on for several."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
