# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Ways to run an import on small inputs in the formats of the data sets and of programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dvmvs_core.cli.main import main
from dvmvs_core.importers.formats import ImportOptions
from dvmvs_core.importers.import_runner import import_scenes

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[2] / "fuzz")]  # of small_inputs, format_writers


@pytest.fixture
def run_import(tmp_path):
    """Export with one process; returns the output folder and the summary."""

    def run(dataset_class, root, own, training=False, frame_skip=1, published=False, **more):
        out = tmp_path / "out"
        options = ImportOptions(training, frame_skip, published)
        return out, import_scenes(dataset_class(published, own), root, out, options, **more)

    return run


@pytest.fixture
def import_by_command(tmp_path):
    """Run `dvmvs import` with one process; returns its exit code, and the record of its scene if that was finished."""

    def run(command, place, *options) -> tuple[int, dict | None]:
        arguments = ("import", command, place, tmp_path / "out", "--workers", 1, *options)
        code = main([str(argument) for argument in arguments])
        records = list((tmp_path / "out").glob("*/export.json"))
        return code, json.loads(records[0].read_text()) if records else None

    return run


@pytest.fixture
def import_recording(tmp_path, import_by_command):
    """Import one of `written_recordings` after a change; returns as `import_by_command`."""

    def run(name: str, change=lambda folder: None) -> tuple[int, dict | None]:
        from written_recordings import WRITERS

        (tmp_path / "in").mkdir()
        arguments = WRITERS[name].write(tmp_path / "in")
        change(tmp_path / "in")
        return import_by_command(*arguments)

    return run
