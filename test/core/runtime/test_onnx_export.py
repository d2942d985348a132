# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""ONNX files and network.json give the depth of the network itself: what is between the parts is written here again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from camera_poses import pose_at

pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx onnxruntime")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime")

from dvmvs_core.errors import WeightsError  # noqa: E402
from dvmvs_core.matching.choose_matcher import shared_extractor, shared_monocular, shared_regulariser  # noqa: E402
from dvmvs_core.model.checkpoint import load_network, save_checkpoint  # noqa: E402
from dvmvs_core.model.regulariser import RegulariserInputs, example_inputs  # noqa: E402
from dvmvs_core.preprocess import normalise  # noqa: E402
from dvmvs_core.runtime.onnx_export import export_onnx  # noqa: E402
from dvmvs_core.runtime.plain_runner import PlainRunner  # noqa: E402
from dvmvs_core.runtime.runner import PreviousKeyframe  # noqa: E402

NETWORKS = {
    "paper fusionnet": ("paper", "fusionnet", {}),
    "paper pairnet": ("paper", "pairnet", {}),
    "refined fusionnet": ("small", "fusionnet", {"refinement_channels": 6}),
}


def homogeneous(width, height):
    """(3, h·w) pixels (x, y, 1), row by row."""
    y, x = np.mgrid[:height, :width].reshape(2, -1).astype(np.float32)
    return np.stack((x, y, np.ones_like(x)))


def bilinear(maps, u, v):
    """Samples (C, N) of maps (C, h, w), with zeros around them."""
    channels, height, width = maps.shape
    left, top = np.floor(u), np.floor(v)
    total = np.zeros((channels, len(u)), np.float32)
    for dy in (0, 1):
        for dx in (0, 1):
            x, y = left + dx, top + dy
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            weight = (1 - abs(u - x)) * (1 - abs(v - y)) * inside
            total += weight * maps[:, np.where(inside, y, 0).astype(int), np.where(inside, x, 0).astype(int)]
    return total


class Player:
    """Runs a folder of ONNX files on keyframes, by what network.json says and nothing else."""

    def __init__(self, folder):
        self.told = json.loads((folder / "network.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.sessions = {
            name: onnxruntime.InferenceSession(folder / part["file"], options)
            for name, part in (self.told["parts"] | self.told["matching"]["parts"]).items()
        }
        self.last = None

    def run(self, part, values):
        """Outputs of a part by name, from whatever of `values` it takes."""
        told = self.told["parts"].get(part) or self.told["matching"]["parts"][part]
        outputs = self.sessions[part].run(None, {name: values[name] for name in told["inputs"]})
        named = dict(zip(told["outputs"], outputs, strict=True))
        assert {name: list(value.shape) for name, value in named.items()} == told["outputs"]
        return named

    def image(self, rgb):
        told = self.told["image"]
        scaled = (rgb.astype(np.float32) / told["scale"] - np.float32(told["mean"])) / np.float32(told["std"])
        return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None], np.float32)

    def keyframe(self, image, measurements, world_T_ref, world_T_meas, K):
        """Depth (H, W) of a keyframe, measured against matching maps."""
        values = {"image": image} | self.run("features", {"image": image})
        views = [(m[0], np.linalg.inv(pose) @ world_T_ref) for m, pose in zip(measurements, world_T_meas, strict=True)]
        for step in self.told["keyframe"][1:]:
            if "part" in step:
                values |= self.run(step["part"], values)
            else:
                values |= getattr(self, step["step"])(values, views, world_T_ref, K)
        depth = values[self.told["depth"]]
        self.last = (depth, world_T_ref, values.get("new_hidden"), values.get("new_cell"))
        return depth[0]

    def pixels(self, T, K, inverse_depths, exact_sampling):
        """Where a view sees cells at inverse depths (P, 1 or N): u, v and which are in view, each (P, N)."""
        h, w = self.told["config"]["height"] // 2, self.told["config"]["width"] // 2
        S = np.eye(3) if exact_sampling else np.diag(((w - 1) / w, (h - 1) / h, 1))
        K2 = np.diag((0.5, 0.5, 1)) @ K
        ends = (S @ K2 @ T[:3, :3] @ np.linalg.inv(K2) @ homogeneous(w, h))[:, None]
        q = (ends + (S @ K2 @ T[:3, 3])[:, None, None] * inverse_depths).astype(np.float32)
        u, v = q[:2] / (q[2] + np.float32(1e-8))
        return u, v, (q[2] > 0) & (u >= 0) & (u <= w - 1) & (v >= 0) & (v <= h - 1)

    def plane_sweep(self, values, views, _pose, K):
        config, reference = self.told["config"], values["matching"][0]
        inverse_depths = np.float32(self.told["inverse_depths"])[:, None]
        own = reference.reshape(len(reference), -1)
        total = seen = 0
        for maps, T in views:
            u, v, in_view = self.pixels(T, K, inverse_depths, config["exact_sampling"])
            counted = in_view if config["mask_out_of_view"] else np.ones_like(in_view)
            s = np.stack([(own * bilinear(maps, *uv)).mean(axis=0) for uv in zip(u, v, strict=True)])
            total, seen = total + s * counted, seen + counted
        return {"costs": (total / np.maximum(seen, 1)).reshape(1, -1, *reference.shape[1:]).astype(np.float32)}

    def warp_hidden_state(self, values, _views, world_T_ref, K):
        shape = self.told["parts"]["decode"]["inputs"]["hidden"]
        if self.last is None:
            return {"hidden": np.zeros(shape, np.float32), "cell": np.zeros(shape, np.float32)}
        depth, world_T_last, hidden, cell = self.last
        _, height, width = depth.shape
        T = np.linalg.inv(world_T_ref) @ world_T_last
        p = T[:3, :3] @ (depth.reshape(-1) * (np.linalg.inv(K) @ homogeneous(width, height))) + T[:3, 3:]
        p = p[:, p[2] > 0].astype(np.float32)
        x, y, _ = np.rint(np.diag((0.5, 0.5, 1)) @ K @ (p / p[2]))
        inside = (x >= 0) & (x < width // 2) & (y >= 0) & (y < height // 2)
        farthest = np.zeros((height // 2, width // 2), np.float32)
        np.maximum.at(farthest, (y[inside].astype(int), x[inside].astype(int)), p[2, inside])
        e = farthest[::16, ::16].reshape(-1)
        K32, back = np.diag((1 / 32, 1 / 32, 1)) @ K, np.linalg.inv(T)
        p = back[:3, :3] @ (e * (np.linalg.inv(K32) @ homogeneous(width // 32, height // 32))) + back[:3, 3:]
        z = np.where(p[2] > 1e-8, p[2], 1)
        u, v, _ = (K32 @ np.stack((p[0] / z, p[1] / z, np.ones_like(z)))).astype(np.float32)
        warped = np.where(e > 0.01, bilinear(hidden[0], u, v), 0)
        return {"hidden": warped.reshape(shape).astype(np.float32), "cell": cell}

    def match_around(self, values, views, _pose, K):
        reference, depth = values["matching"][0], values["depth"][0, ::2, ::2].reshape(-1)
        inverse_depths = np.exp(-np.float32(self.told["log_shifts"]))[:, None] / depth
        own = reference.reshape(len(reference), -1)
        own = own / np.maximum(np.linalg.norm(own, axis=0), 1e-3)
        total = seen = 0
        for maps, T in views:
            u, v, in_view = self.pixels(T, K, inverse_depths, exact_sampling=True)
            samples = [bilinear(maps, *uv) for uv in zip(u, v, strict=True)]
            s = np.stack([(own * m).sum(axis=0) / np.maximum(np.linalg.norm(m, axis=0), 1e-3) for m in samples])
            total, seen = total + s * in_view, seen + in_view
        shape = (1, -1, *reference.shape[1:])
        cosines, in_view = total / np.maximum(seen, 1), seen / len(views)
        return {
            "cosines": cosines.reshape(shape).astype(np.float32),
            "in_view": in_view.reshape(shape).astype(np.float32),
        }


def walk(height, width, keyframes):
    """RGB images with structure of every size, poses and K of a camera that moves past something."""
    import cv2

    noise = np.random.default_rng(0)
    wall = sum(
        cv2.resize(noise.integers(0, 256, (side, side, 3)).astype(np.float32), (2 * width, 2 * height)) / 4
        for side in (8, 24, 72, 216)
    )
    images, poses = [], []
    for i in range(keyframes + 1):
        images.append(wall[4 * i : 4 * i + height, 9 * i : 9 * i + width].clip(0, 255).astype(np.uint8))
        poses.append(pose_at(0.12 * i, 0.03 * i, 0.05 * i, turned=0.02 * i).astype(np.float32))
    K = np.array(((0.8 * width, 0, width / 2), (0, 0.8 * width, height / 2 - 2), (0, 0, 1)), np.float32)
    return images, poses, K


@torch.inference_mode()
def plain_depths(network, images, poses, K):
    """Depths (H, W) of the network itself, and the state that it leaves."""
    runner, K = PlainRunner(network, keeps_features=True), torch.from_numpy(K)[None]
    images = [torch.from_numpy(normalise(image))[None] for image in images]
    poses = [torch.from_numpy(pose)[None] for pose in poses]
    depths, previous = [], None
    for i in range(1, len(images)):
        before = range(max(0, i - 2), i)
        maps = [runner.features(images[j]).matching for j in before]
        features = runner.features(images[i])
        depth, state = runner.depth(images[i], features, maps, poses[i], [poses[j] for j in before], K, previous)
        previous = PreviousKeyframe(depth[:, None], poses[i], state)
        depths.append(depth[0].numpy())
    return depths, state


def played_depths(player, images, poses, K):
    """As `plain_depths`."""
    images = [player.image(image) for image in images]
    maps = [player.run("features", {"image": image})["matching"] for image in images]
    depths = [
        player.keyframe(images[i], maps[max(0, i - 2) : i], poses[i], poses[max(0, i - 2) : i], K)
        for i in range(1, len(images))
    ]
    return depths, player.last[2:]


def assert_same(played, expected):
    found, state = played
    expected, expected_state = expected
    # Random weights hardly show in depth what was remembered.
    for kept, plain in zip(state, expected_state or (None, None), strict=True):
        assert (kept is None) == (plain is None)
        if plain is not None:
            np.testing.assert_allclose(kept, plain, rtol=1e-2, atol=1e-2)
    for depth, plain in zip(found, expected, strict=True):
        assert (abs(depth - plain) / plain).mean() < 1e-4
    assert (abs(found[-1] - found[0]) / found[0]).mean() > 1e-3  # or any depth would do


@pytest.mark.parametrize("name", NETWORKS)
def test_depth_is_that_of_the_network(make_network, tmp_path, name):
    chosen, kind, changes = NETWORKS[name]
    network = make_network(chosen, kind, **changes)
    save_checkpoint(tmp_path / "a.safetensors", {kind: network}, {}, half=False)
    export_onnx(tmp_path / "a.safetensors", tmp_path / "out")
    played = walk(network.config.height, network.config.width, keyframes=4)
    assert_same(played_depths(Player(tmp_path / "out"), *played), plain_depths(network, *played))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fusionnet", "pairnet"])
def test_depth_is_that_of_the_shipped_network(tmp_path, kind):
    files = export_onnx("small", tmp_path / "out", kind)
    assert len(files) == (7 if kind == "fusionnet" else 6) and all(file.is_file() for file in files)
    network, config = load_network("small", kind)
    played = walk(config.height, config.width, keyframes=4)
    assert_same(played_depths(Player(tmp_path / "out"), *played), plain_depths(network, *played))


def test_networks_of_matching_are_what_the_engine_runs(make_network, tmp_path):
    network = make_network("small", "pairnet")
    size = (network.config.height, network.config.width)
    save_checkpoint(tmp_path / "a.safetensors", {"pairnet": network}, {})
    export_onnx(tmp_path / "a.safetensors", tmp_path / "out")
    player = Player(tmp_path / "out")
    noise = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, *size, generator=noise)
    levels = player.run("lite0", {"image": image.numpy()})
    for found, expected in zip(levels.values(), shared_extractor(*size, "float32")(image), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
    rays, focal_px = torch.randn(1, 2, size[0] // 16, size[1] // 16, generator=noise), torch.tensor((250.0,))
    seen = dict(list(levels.items())[1:]) | {"rays": rays.numpy(), "focal_px": focal_px.numpy()}
    expected = shared_monocular(*size, "float32")(*(torch.from_numpy(x) for x in seen.values()))
    for found, wanted in zip(player.run("monocular", seen).values(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    inputs = RegulariserInputs(*(torch.rand(x.shape, generator=noise) for x in example_inputs(*size)))
    inputs = inputs._replace(image=inputs.image * 255, **{k: torch.from_numpy(v) for k, v in levels.items()})
    answer = player.run("regulariser", {name: x.numpy() for name, x in inputs._asdict().items()})
    for found, expected in zip(answer.values(), shared_regulariser(*size, "float32")(inputs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_folder_that_is_there_stays_as_it_is(make_network, tmp_path):
    (tmp_path / "out").mkdir()
    save_checkpoint(tmp_path / "a.safetensors", {"pairnet": make_network("small", "pairnet")}, {})
    with pytest.raises(WeightsError, match="exists already"):
        export_onnx(tmp_path / "a.safetensors", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
