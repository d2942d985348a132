# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import dataclasses
import importlib
import re
from typing import get_args

import docstring_parser
import pytest

from dvmvs_core.cli.help_texts import flowing
from dvmvs_core.cli.main import COMMANDS, module_of
from dvmvs_core.importers.formats import FORMATS


def members(options: object) -> list[type]:
    """The dataclasses of a command's options, and of its own commands."""
    if isinstance(options, type):
        return [options]
    return [found for member in get_args(options) for found in members(member) if dataclasses.is_dataclass(found)]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_of_help_ends_where_only_the_source_did(dvmvs, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "400")
    for options in members(importlib.import_module(module_of(command)).Options):
        own = len(get_args(importlib.import_module(module_of(command)).Options)) > 0
        words = [command, *([_subcommand(options)] if own else [])]
        code, out, _ = dvmvs(*words, "--help")
        assert code == 0
        printed = " ".join(re.sub("[│╭╰─]", " ", out).split())
        lines = [" ".join(line.strip("│ ").split()) for line in out.splitlines()]
        for param in docstring_parser.parse_from_object(options).params:
            text = flowing(param.description)
            assert text in printed
            assert len(text) > 300 or any(text in line for line in lines), text


def _subcommand(options: type) -> str:
    recordings = {known.options: name for name, known in FORMATS.items()}
    return recordings.get(options) or {"Everything": "all"}.get(options.__name__, options.__name__.lower())


def test_defaults_are_told_once(dvmvs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for command in ("predict", "evaluate", "benchmark"):
        out = dvmvs(command, "--help")[1]
        assert "(default: None)" not in out and "(default: False)" not in out and "(default: )" not in out
    assert "(default: 10)" in dvmvs("predict", "--help")[1]


def test_paragraphs_stay_apart():
    assert flowing("one\n    two\n\nthree\n`four`") == "one two\n\nthree `four`"
