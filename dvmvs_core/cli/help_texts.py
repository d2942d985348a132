# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Help texts as tyro prints them: paragraphs flow to the terminal's width, and defaults tell something."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
from typing import Annotated, get_args, get_origin, get_type_hints

import docstring_parser
import tyro

TOLD_BY_TEXT = ("", "None", "False")
"""Defaults of flags, and of options whose text says what holds without them."""


def flowing(text: str) -> str:
    """Return a docstring with one line a paragraph: lines break where the terminal ends, not where the source does."""
    paragraphs = text.replace("\r", "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs).strip()


def filled(text: str) -> str:
    """Return a docstring with lines as long as the terminal, for a description, which tyro prints as it is.

    Lines after the first are indented: tyro joins those that begin with a letter.
    """
    width = shutil.get_terminal_size().columns
    paragraphs = flowing(text).split("\n\n")
    return "\n\n".join(textwrap.fill(one, width, subsequent_indent="  ") for one in paragraphs)


def describe_options(options: object) -> None:
    """Give tyro the help of a dataclass of options, or of each in a union, and of those within.

    It would keep the line breaks of an attribute's docstring, which stand in the middle of sentences.
    """
    for member in get_args(options):
        describe_options(member)
    options = get_origin(options) or options  # of a generic class
    if not (isinstance(options, type) and dataclasses.is_dataclass(options)) or "_described" in vars(options):
        return
    options._described = True
    docs = {param.arg_name: param.description for param in docstring_parser.parse_from_object(options).params}
    hints = get_type_hints(options, include_extras=True)
    for base in options.__mro__[1:]:
        describe_options(base)
    for name in vars(options).get("__annotations__", {}):
        describe_options(hints[name])
        text = docs.get(name)
        if text is not None:
            described = tyro.conf.arg(help=flowing(text), help_behavior_hint=_told)
            options.__annotations__[name] = Annotated[hints[name], described]


def _told(default: str) -> str:
    return "" if default in TOLD_BY_TEXT else f"(default: {default})"
