# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The boundary to data that others made."""

from __future__ import annotations

import pickle
import tokenize
import zipfile

import cv2
import pytest

from dvmvs_core.errors import DataError, FrameError, MessageError
from dvmvs_core.foreign import QUOTED, foreign, quoted, reason


@pytest.mark.parametrize(
    "fault",
    (
        cv2.error("assertion failed"),
        zipfile.BadZipFile("no zip"),
        tokenize.TokenError("EOF in multi-line statement"),
        pickle.UnpicklingError("pickle data was truncated"),
        MemoryError("Unable to allocate 7.28 TiB"),
        OSError(22, "Invalid argument"),
        NotImplementedError("compression type 99"),
        RuntimeError(),
    ),
)
def test_whatever_comes_becomes_one_error_that_names_its_origin(fault):
    with pytest.raises(DataError) as raised, foreign("a.npz cannot be read", advice=". Export it again"):
        raise fault
    assert str(raised.value).startswith("a.npz cannot be read: ")
    assert str(raised.value).endswith(". Export it again")
    assert raised.value.__cause__ is fault


def test_an_error_of_the_type_asked_for_passes_and_another_gets_the_name():
    with pytest.raises(MessageError, match="^as it is$"), foreign("the image", MessageError):
        raise MessageError("as it is")
    with pytest.raises(MessageError, match="^the image: no rotation$"), foreign("the image", MessageError):
        raise FrameError("no rotation")


def test_ctrl_c_is_no_fault_of_the_data():
    with pytest.raises(KeyboardInterrupt), foreign("the image"):
        raise KeyboardInterrupt


def test_foreign_text_is_quoted_in_part():
    assert quoted("short") == "'short'"
    assert len(quoted("x" * 10**7)) <= QUOTED
    assert len(quoted(list(range(10**5)))) <= QUOTED
    assert len(reason(ValueError("y" * 10**7))) < 200
    assert "\n" not in reason(ValueError("a\nb"))
