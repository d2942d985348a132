# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The demo: three processes over DDS, the same depth as offline prediction, and nothing left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dvmvs_core.data.bags.bag_writer import write_bag
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.evaluation.prediction.predict_sequence import predict_online, write_predictions
from dvmvs_core.evaluation.prediction.prediction_files import PredictionReader
from dvmvs_core.evaluation.scoring.score import score_predictions

WAIT_S = 250.0
"""A guard against hanging, which no test that passes waits for."""

DEMO = (sys.executable, "-m", "dvmvs_ros.demo.run", "--device", "cpu")


def run_demo(environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess:
    command, environment = [*DEMO, *map(str, arguments)], {**environment, "COLUMNS": "1000"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WAIT_S)


def test_a_bag_through_the_node_gives_the_depth_of_its_folder_offline(
    ros_environment, tiny_weights, engine, scene, tmp_path
):
    folder = open_sequence(scene)
    write_bag(folder, tmp_path / "bag")
    out = tmp_path / "demo"
    done = run_demo(ros_environment, "--sequence", tmp_path / "bag", "--weights", tiny_weights, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr

    write_predictions(predict_online(engine, folder), tmp_path / "offline")
    offline = PredictionReader(tmp_path / "offline" / "predictions.npz")
    through_node = PredictionReader(out / "predictions.npz")
    for name in ("frame_index", "measurement_index", "stamp_ns"):
        np.testing.assert_array_equal(getattr(through_node, name), getattr(offline, name))
    np.testing.assert_allclose(through_node.K, offline.K)
    for ours, expected in zip(through_node.depths(), offline.depths(), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5)

    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames_sent"] == summary["frames_answered"] == len(folder)
    assert summary["keyframes"] - 1 == summary["depths"] == summary["depth_images"] == summary["clouds"] == len(offline)
    assert summary["dropped"] == {}
    assert 0 < summary["inference_ms"]["median"] <= summary["latency_ms"]["median"]
    expected = score_predictions(tmp_path / "offline" / "predictions.npz", folder).mean.to_dict()
    assert summary["metrics"] == pytest.approx(expected, rel=1e-4)

    recorded = open_sequence(out / "demo.mcap")
    assert len(recorded) == len(folder) and recorded.has_depth
    for name in ("strip.png", "cloud.png"):
        assert (out / name).stat().st_size > 1000


def test_ctrl_c_ends_every_process(ros_environment, tiny_weights, scene, tmp_path):
    with (tmp_path / "printed").open("wb") as printed:
        demo = subprocess.Popen(
            [*DEMO, "--sequence", str(scene), "--weights", str(tiny_weights), "--out", str(tmp_path / "demo")],
            env=ros_environment,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    end = time.monotonic() + WAIT_S
    while len(children := _children(demo.pid)) < 3 or not list((tmp_path / "demo" / "recording").glob("*")):
        assert time.monotonic() < end and demo.poll() is None, (tmp_path / "printed").read_text()
        time.sleep(0.05)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(WAIT_S) == 130, (tmp_path / "printed").read_text()
    assert not [pid for pid in children if _is_alive(pid)]
    assert "Traceback" not in (tmp_path / "printed").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--sequence", "/no/such/scene"), "/no/such/scene does not exist"),
        (("--weights", "/no/such/weights"), "/no/such/weights"),
    ],
)
def test_what_a_user_can_fix_is_one_line(ros_environment, scene, tmp_path, arguments, said):
    done = run_demo(ros_environment, "--sequence", scene, "--out", tmp_path / "demo", *arguments)
    assert done.returncode == 1
    assert said in done.stdout and "Traceback" not in done.stdout + done.stderr


def _children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
