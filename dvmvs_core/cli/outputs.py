# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Places that a command writes to are checked before it starts: what took an hour must not be refused at its end."""

from __future__ import annotations

import dataclasses
import errno
import os
from enum import Enum
from pathlib import Path
from typing import get_type_hints

from dvmvs_core.errors import DataError


class Output(Enum):
    """Stands in the `Annotated` type of an option that names what is written."""

    FILE = "file"
    FOLDER = "folder"


def check_outputs(options: object) -> None:
    """Refuse a dataclass of options where one of them names a place that cannot be written.

    Raises:
        DataError: which names the place and says why.
    """
    for name, hint in get_type_hints(type(options), include_extras=True).items():
        value = getattr(options, name)
        if dataclasses.is_dataclass(value):
            check_outputs(value)
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Output) and value is not None:
                check_output(value, mark)


def check_output(path: Path, kind: Output) -> None:
    """Refuse a place where no file or folder can be written; folders above it may be missing.

    Raises:
        DataError: if something else lies there, or it is in a folder that cannot be written.
    """
    of_kind = path.is_file() if kind is Output.FILE else path.is_dir()
    if path.exists() and not of_kind:
        raise DataError(f"{path} must be a {kind.value} to write, and exists already as something else; name another")
    if kind is Output.FOLDER and path.is_symlink() and not of_kind:
        raise DataError(f"{path} exists already, as a link to nothing; remove it or name another")
    folder = path if kind is Output.FOLDER else path.parent
    while not (folder.exists() or folder == folder.parent):
        folder = folder.parent
    number = 0 if os.access(folder, os.W_OK | os.X_OK) else errno.EACCES
    if not folder.is_dir():
        number = errno.ENOTDIR
    elif number and os.statvfs(folder).f_flag & os.ST_RDONLY:
        number = errno.EROFS
    if number:
        raise DataError(f"{path} cannot be written: {folder}: {os.strerror(number)}. Name another place")
