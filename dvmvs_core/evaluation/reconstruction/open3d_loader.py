# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Open3D, an optional package: loaded where it is used, and asked for by name where it is missing."""

from __future__ import annotations

from types import ModuleType

from dvmvs_core.errors import PackageError


def load_open3d() -> ModuleType:
    """Return the module open3d.

    Raises:
        PackageError: if it is not installed, or lacks one of the system's libraries.
    """
    try:
        import open3d
    except ModuleNotFoundError as error:
        raise PackageError(
            f"meshes need Open3D, and {error.name} is not installed: pip install 'dvmvs_ros[reconstruct]', or in a"
            " checkout pip install -c constraints.txt -e '.[reconstruct]'"
        ) from error
    except (ImportError, OSError) as error:
        raise PackageError(
            f"meshes need Open3D, which is installed but cannot be loaded: {error}. On Debian and Ubuntu: sudo apt"
            " install libgl1 libegl1 libx11-6 libusb-1.0-0"
        ) from error
    # What it has to say comes as exceptions and empty results, which callers turn into messages of their own.
    open3d.utility.set_verbosity_level(open3d.utility.VerbosityLevel.Error)
    return open3d
