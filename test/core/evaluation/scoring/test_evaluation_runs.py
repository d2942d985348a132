# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dvmvs_core.config import EngineConfig, KeyframeConfig, preset
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import ConfigError
from dvmvs_core.evaluation.prediction.predict_sequence import write_predictions
from dvmvs_core.evaluation.scoring.evaluation_runs import plan_runs

INDEX = "00005.png 00003.png\nTRACKING LOST\n00007.png 00005.png 00003.png\n00008.png 00005.png\n"


@pytest.fixture
def index(tmp_path):
    def write(name: str):
        (tmp_path / name).write_text(INDEX)
        return tmp_path / name

    return write


def test_each_sequence_is_a_run_and_equal_names_get_their_folder_in_front(make_scene):
    sequences = [open_sequence(make_scene(name)) for name in ("a/000", "b/000", "b/001")]
    runs = plan_runs(sequences)
    assert [(run.name, run.dataset) for run in runs] == [("a_000", "a"), ("b_000", "b"), ("001", "b")]
    with pytest.raises(ConfigError, match="two sequences go by the name a_000"):
        plan_runs([sequences[0], sequences[0]])


def test_each_index_file_is_a_run(make_scene, index):
    sequences = [open_sequence(make_scene("000"))]
    files = tuple(index(f"{rule}+set+000+nmeas+2") for rule in ("keyframe", "simple10"))
    runs = plan_runs(sequences, files)
    assert [run.name for run in runs] == ["000_keyframe_2", "000_simple10_2"]
    assert [run.name for run in plan_runs(sequences, files[:1])] == ["000"]


def test_an_index_is_followed_up_to_the_limit_with_its_resets(make_scene, index, engine):
    (run,) = plan_runs([open_sequence(make_scene(frames=8))], (index("mine.txt"),), limit=2)
    list(run.predict(engine, False, lambda _: None))
    assert engine.calls == [("reset",), (2, (0,)), ("reset",), (4, (2, 0))]
    with pytest.raises(ConfigError, match="--limit must be at least 1"):
        plan_runs([run.sequence], limit=0)


@pytest.mark.parametrize(
    ("file", "network", "expected"),
    (
        (None, "fusionnet", "keyframe_mine_96_64_3_dvmvs_fusionnet_online"),
        (None, "pairnet", "keyframe_mine_96_64_3_dvmvs_pairnet_online"),
        ("simple10+7scenes+office+nmeas+2", "pairnet", "simple10_7scenes_96_64_2_dvmvs_pairnet"),
        ("own.txt", "fusionnet", "own_mine_96_64_2_dvmvs_fusionnet"),
    ),
)
def test_systems_have_their_published_names(make_scene, index, file, network, expected):
    files = (index(file),) if file else ()
    (run,) = plan_runs([open_sequence(make_scene("mine/scene"))], files)
    engine = SimpleNamespace(
        model_config=preset("small", network=network, height=64, width=96),
        config=EngineConfig(keyframes=KeyframeConfig(measurement_frames=3)),
    )
    assert run.system(engine) == expected
    assert run.scene == ("office" if file and "office" in file else "scene")


def test_what_was_predicted_can_be_predicted_again_by_another(make_scene, engine, tmp_path):
    (run,) = plan_runs([open_sequence(make_scene(frames=9))])
    write_predictions(run.predict(engine, False, lambda _: None), tmp_path / "out")
    entries = run.entries_of(tmp_path / "out" / "predictions.npz")
    assert [str(entry) for entry in entries[:2]] == ["00005.png 00003.png", "00007.png 00005.png 00003.png"]
