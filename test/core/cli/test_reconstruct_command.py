# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""`dvmvs reconstruct`, on a wall 2 m before a camera that moves sideways."""

from __future__ import annotations

import json
import sys
from functools import partial

import cv2
import numpy as np
import pytest

from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.evaluation.reconstruction import reconstruct

POSES = np.tile(np.eye(4), (9, 1, 1))
POSES[:, 0, 3] = 0.06 * np.arange(9)


@pytest.fixture
def wall(make_scene):
    """A scene folder with 4 keyframes; frame 3 onwards sees the wall 1 cm farther away than the first three."""
    scene = make_scene("wall", frames=9, poses=POSES)
    for number, path in enumerate(sorted((scene / "depth").iterdir())):
        cv2.imwrite(str(path), np.full((36, 48), 2000 if number < 3 else 2010, np.uint16))
    return scene


@pytest.fixture
def textured_wall(wall):
    """The same wall, with a texture that every camera sees where it is."""
    columns, rows = np.meshgrid(np.arange(48), np.arange(36))
    for number, path in enumerate(sorted((wall / "images").iterdir())):
        across = (columns - 23.5) / 40.0 * 2.0 + POSES[number, 0, 3]
        down = (rows - 17.5) / 41.0 * 2.0
        grey = 128 + 40 * (np.sin(17 * across + 4 * down) + np.sin(29 * across - 9 * down) + np.sin(11 * down))
        cv2.imwrite(str(path), np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return wall


def keyframes(scene) -> list:
    return [item for item in open_sequence(scene).items() if item.frame.index in (2, 4, 6, 8)]


def write_keyframes(path, items, **images: np.ndarray) -> None:
    """Write depth of these items as `dvmvs predict` would."""
    np.savez(
        path,
        frame_index=np.array([item.frame.index for item in items]),
        measurement_index=np.zeros((len(items), 1), int),
        stamp_ns=np.array([item.frame.stamp_ns for item in items]),
        K=items[0].frame.K,
        world_T_cam=np.stack([item.frame.world_T_cam for item in items]),
        latency_ms=np.ones(len(items)),
        **images,
    )


@pytest.fixture
def small_picture(monkeypatch):
    """A picture of the full size takes longer than all else here."""
    monkeypatch.setattr(reconstruct, "write_picture", partial(reconstruct.write_picture, size=(60, 80)))


@pytest.fixture
def reconstructed(ran, tmp_path):
    """A function that runs `dvmvs reconstruct SCENE ARGUMENTS`, and returns its figures and what it printed."""

    def run(scene, *arguments: object, out: str = "mesh.ply") -> tuple[dict, str]:
        said = ran("reconstruct", scene, "--out", tmp_path / out, "--json", tmp_path / "figures.json", *arguments)
        return json.loads((tmp_path / "figures.json").read_text()), said

    return run


@pytest.mark.usefixtures("open3d", "small_picture")
class TestWithOpen3D:
    def test_sensor_depth_becomes_a_mesh_a_picture_and_figures(self, reconstructed, wall, open3d, tmp_path):
        growing = ("--progressive", tmp_path / "growing", "--progressive-every", 2)
        read, said = reconstructed(wall, "--sensor", *growing, out="new/mesh.ply")
        mesh = open3d.io.read_triangle_mesh(str(tmp_path / "new" / "mesh.ply"))
        assert np.asarray(mesh.vertices)[:, 2] == pytest.approx(2.0, abs=0.025)
        assert cv2.imread(str(tmp_path / "new" / "mesh.png")).shape[1] == 160
        assert "4 frames" in said and "m²" in said and "F-score" not in said
        assert (read["frames"], read["depth"], read["against_sensor"]) == (4, {"source": "sensor"}, None)
        assert read["mesh"]["area_m2"] == pytest.approx(mesh.get_surface_area(), rel=1e-3)
        assert read["fusion"]["voxel_size_m"] == 0.015
        assert [file.name for file in sorted((tmp_path / "growing").iterdir())] == ["mesh_00004.ply", "mesh_00008.ply"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [(("--every-frame",), "9 frames"), (("--limit", 3, "--min-views", 3), "3 frames")],
        ids=("every frame", "limit"),
    )
    def test_every_frame_and_a_limit(self, reconstructed, wall, arguments, said):
        assert said in reconstructed(wall, "--sensor", *arguments)[1]

    def test_the_network_and_its_stored_predictions_give_the_same_figures(
        self, reconstructed, predicted, wall, weights, tmp_path
    ):
        # An untrained network sees surface anywhere within its 20 m.
        common = ("--raw", "--min-confidence", 0, "--max-depth", 20, "--voxel-size", 0.1, "--min-views", 1)
        engine = ("--weights", weights, "--device", "cpu")
        now, said = reconstructed(wall, *common, *engine)
        assert "F-score at 5 cm" in said
        predicted(wall, "--pictures", 0, "--device", "cpu")
        before, _ = reconstructed(wall, *common, "--predictions", tmp_path / "o" / "predictions.npz")
        assert now["depth"]["network"] == "fusionnet"
        assert before["depth"]["source"] == "predictions"
        for name in ("accuracy_m", "completion_m", "precision", "recall", "compared_pixels"):
            assert now["against_sensor"][name] == pytest.approx(before["against_sensor"][name], abs=0.02), name
        _, said = reconstructed(wall, *common, *engine, "--every-frame")
        assert "from 8 frames" in said  # the first has nothing to be measured against

    def test_sensor_depth_as_prediction_is_perfect(self, reconstructed, wall, tmp_path):
        """The whole way, with figures that are known."""
        items = keyframes(wall)
        depth = np.stack([item.sensor_depth for item in items])
        scores = []
        for offset_m in (0.0, 0.1):
            write_keyframes(tmp_path / "p.npz", items, depth=(depth + offset_m).astype(np.float32))
            figures, _ = reconstructed(wall, "--raw", "--predictions", tmp_path / "p.npz")
            assert figures["fusion"]["min_confidence"] == 0.0
            scores.append(figures["against_sensor"])
        right, wrong = scores
        assert (right["f_score"], right["compared_pixels"]) == (1.0, 1.0)
        assert right["chamfer_m"] < 1e-5
        assert wrong["f_score"] == 0.0
        assert wrong["chamfer_m"] == pytest.approx(0.1, abs=0.01)

    def test_refinement_brings_a_wall_to_its_place(self, reconstructed, textured_wall, tmp_path):
        items = keyframes(textured_wall)
        wrong = np.full((4, 36, 48), 1.7, np.float32)
        write_keyframes(tmp_path / "wrong", items, depth=wrong)
        scores = {}
        for name, more in (("raw", ("--raw",)), ("refined", ())):
            figures, said = reconstructed(textured_wall, "--predictions", tmp_path / "wrong.npz", *more)
            assert f"{name} depth against sensor depth" in said
            assert figures["fusion"]["refined"] == (name == "refined")
            scores[name] = figures["against_sensor"]
        assert scores["raw"]["precision"] < 0.05
        assert scores["refined"]["precision"] > 0.8

    def test_depth_that_was_refined_before_is_not_refined_again(self, reconstructed, textured_wall, tmp_path):
        """It stands in the wrong place, where another refinement would not leave it."""
        items = keyframes(textured_wall)
        depth = np.full((4, 36, 48), 1.7, np.float32)
        write_keyframes(tmp_path / "wrong", items, depth=depth, refined=np.ones(4, bool))
        for more in ((), ("--raw",)):
            figures, said = reconstructed(textured_wall, "--predictions", tmp_path / "wrong.npz", *more)
            assert "refined depth against sensor depth" in said
            assert figures["fusion"]["refined"] and figures["against_sensor"]["precision"] < 0.05

    def test_depth_of_little_confidence_is_left_out_unless_it_is_wanted(self, reconstructed, wall, tmp_path):
        items = keyframes(wall)
        depth = np.full((4, 36, 48), 2.0, np.float32)
        depth[..., 24:] = 1.5
        confidence = np.where(depth == 2.0, np.float32(0.9), np.float32(0.1))
        write_keyframes(tmp_path / "predictions", items, depth=depth, confidence=confidence)
        areas = []
        for more in ((), ("--min-confidence", 0)):
            figures, _ = reconstructed(wall, "--raw", "--predictions", tmp_path / "predictions.npz", *more)
            areas.append(figures["mesh"]["area_m2"])
        assert areas[1] > 1.3 * areas[0]

    def test_a_failure_leaves_no_file(self, refused, wall, tmp_path):
        out = tmp_path / "out" / "mesh.ply"
        said = refused("reconstruct", wall, "--sensor", "--max-depth", 1, "--out", out)[-1]
        assert "no surface came out: no depth lies within 1 m" in said
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--sensor", "--predictions", "p.npz"), "--sensor and --predictions name two sources"),
            (("--every-frame", "--predictions", "p.npz"), "--every-frame needs the network or --sensor"),
            (("--voxel-size", 0), "voxel_size_m must be a number of at least 0.001"),
            (("--progressive-every", 0), "--progressive-every must be at least 1"),
            (("--min-confidence", 2), "--min-confidence must lie between 0 and 1"),
            (("--predictions", "nowhere.npz"), "nowhere.npz cannot be read as predictions"),
        ],
    )
    def test_a_wrong_option_is_one_line_before_any_work(self, refused, wall, tmp_path, arguments, said):
        assert said in refused("reconstruct", wall, "--out", tmp_path / "mesh.ply", *arguments)[-1]
        assert not (tmp_path / "mesh.ply").exists()


@pytest.mark.parametrize(
    ("out", "said"),
    [("mesh.obj", "--out must name a .ply file"), ("mesh.ply", "pip install 'dvmvs_ros[reconstruct]'")],
    ids=("another format", "no Open3D"),
)
def test_another_file_format_or_no_open3d_is_one_line(refused, wall, tmp_path, monkeypatch, out, said):
    monkeypatch.setitem(sys.modules, "open3d", None)
    (line,) = refused("reconstruct", wall, "--sensor", "--out", tmp_path / out)
    assert said in line
