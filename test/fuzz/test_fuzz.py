# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Damaged data of every kind: nothing but errors of ours, within 5 s and 500 MB. `make fuzz` tries millions."""

from __future__ import annotations

import pytest
from fuzz_run import quiet, run_case
from fuzz_targets import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = 2000
EACH = CASES // len(TARGETS) + 1


@pytest.fixture(autouse=True)
def silence():
    with quiet():
        yield


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_damaged_data_cost_an_error_and_nothing_else(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp(name) / "case"

    @settings(max_examples=EACH, database=None)
    @given(st.integers(0, 2**32))
    def run(number: int) -> None:
        run_case(name, number, folder)

    run()


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_seeds_are_whole(tmp_path, monkeypatch, name):
    """Mutations of what is refused anyway would try nothing."""
    outcomes = {run_case(name, number, tmp_path / "case") for number in range(40)}
    assert "read" in outcomes, f"none of 40 mutations of {name} was read: {outcomes}"
    assert TARGETS[name].seeds()
