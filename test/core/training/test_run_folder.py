# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a run leaves to look at, and that nothing written well is lost: full disks, half files, repeated steps."""

from __future__ import annotations

import builtins
import json

import cv2
import numpy as np
import pytest
import torch

from dvmvs_core.errors import DataError, PackageError
from dvmvs_core.model.dvmvs import build_network
from dvmvs_core.training.contact_sheets import ROWS, contact_sheet
from dvmvs_core.training.monitoring import FOLDER_NAME, Board
from dvmvs_core.training.run_folder import LOG_NAME, RunFolder


def test_full_disk_leaves_the_last_good_checkpoint(files_end_at, tmp_path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.save({"step": 1, "weights": torch.zeros(10_000)})
    with files_end_at(10_000), pytest.raises(DataError, match="the checkpoint before it is still whole"):
        folder.save({"step": 2, "weights": torch.ones(10_000)})
    state = folder.load()
    assert state["step"] == 1
    assert not state["weights"].any()
    assert [path.name for path in folder.path.iterdir()] == ["last.pt"]


def test_log_that_cannot_be_written_ends_nothing(tmp_path, caplog) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / LOG_NAME).mkdir()
    folder.log({"step": 1})
    assert "cannot write" in caplog.text


def test_log_forgets_what_will_be_done_again(tmp_path) -> None:
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.log({"step": step})
    with (tmp_path / LOG_NAME).open("ab") as log:
        log.write(b'{"step": "x"}\n{"step": {}}\n[1]\n\xff\xfe\n{"step": 4, "lo')
    folder.forget_after(2)
    assert [json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines()] == [{"step": 1}, {"step": 2}]


def test_folder_that_cannot_be_made_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot make the run folder"):
        RunFolder(tmp_path / "file" / "run")


@pytest.mark.parametrize("network", ["pairnet", "fusionnet"])
def test_sheet_has_a_row_a_clip_and_shows_its_last_frame(tiny, wall_clips, network) -> None:
    torch.manual_seed(0)
    model = build_network(tiny.replace(network=network)).eval()
    batches = [wall_clips(seed) for seed in (1, 2)]
    sheet = contact_sheet(model, batches, measurement_frames=2)
    height = sheet.shape[0] // 4
    assert sheet.dtype == np.uint8
    for row, image in enumerate(torch.cat([batch.image[:, -1] for batch in batches])):
        shown = sheet[(row + 1) * height - 64 : (row + 1) * height, :96]
        np.testing.assert_array_equal(shown, image.permute(1, 2, 0).numpy())
    many = contact_sheet(model, [wall_clips(1)] * 10, measurement_frames=2)
    assert many.shape[0] == ROWS * height


def test_every_validation_leaves_a_picture_and_curves(make_trainer, tmp_path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    make_trainer(folder=tmp_path, tensorboard=True, steps=2, log_steps=1, validate_minutes=0.0).run()
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == ["00000001.png", "00000002.png"]
    shown = cv2.imread(str(tmp_path / "pictures" / "00000002.png"))
    events = accumulator.EventAccumulator(str(tmp_path / FOLDER_NAME)).Reload()
    assert [point.step for point in events.Scalars("training/loss")] == [1, 2]
    assert [point.step for point in events.Scalars("validation/l1-inv")] == [1, 2]
    image = events.Images("validation")[-1]
    assert (image.height, image.width) == shown.shape[:2]


def test_tensorboard_that_is_not_installed_is_named(tmp_path, monkeypatch) -> None:
    real = builtins.__import__

    def without(name, *rest):
        if name == "torch.utils.tensorboard":
            raise ImportError("No module named 'tensorboard'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PackageError, match="pip install tensorboard"):
        Board(tmp_path)
