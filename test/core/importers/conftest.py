# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A way to run an export on small inputs in the formats of the data sets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dvmvs_core.importers.formats import ImportOptions
from dvmvs_core.importers.import_runner import import_scenes

sys.path.insert(0, str(Path(__file__).parent))  # of small_inputs and written_recordings


@pytest.fixture
def run_import(tmp_path):
    """Export with one process; returns the output folder and the summary."""

    def run(dataset_class, root, own, training=False, frame_skip=1, published=False, **more):
        out = tmp_path / "out"
        options = ImportOptions(training, frame_skip, published)
        return out, import_scenes(dataset_class(published, own), root, out, options, **more)

    return run
