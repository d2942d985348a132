# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What a frame refuses, and resizing an image and its intrinsics together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvmvs_core.errors import FrameError
from dvmvs_core.preprocess import Preprocessor, normalise, resized_tensor
from dvmvs_core.types import Frame

K = np.array(((50.0, 3.0, 31.0), (0, 55.0, 22.0), (0, 0, 1)))


def test_stretching_scales_intrinsics_by_each_side():
    scaled = Preprocessor(K, (48, 64), (96, 32)).K
    np.testing.assert_allclose(scaled, ((25, 0, 15.5), (0, 110, 44), (0, 0, 1)))


def test_crop_keeps_the_aspect_ratio():
    """64×48 to a square: 8 columns leave on each side, and nothing is scaled."""
    preprocessor = Preprocessor(K, (48, 64), (48, 48), crop=True)
    np.testing.assert_allclose(preprocessor.K, ((50, 0, 23), (0, 55, 22), (0, 0, 1)))
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(preprocessor.image(image), image[:, 8:56].astype(np.float32))


def test_depth_is_never_interpolated():
    depth = np.where(np.arange(64) < 31, 1.0, 5.0)[None].repeat(48, axis=0).astype(np.float32)
    assert set(np.unique(Preprocessor(K, (48, 64), (32, 32)).depth(depth))) == {1.0, 5.0}


def test_image_of_another_size_is_refused():
    with pytest.raises(FrameError, match=r"\(48, 64\).*got \(24, 32\)"):
        Preprocessor(K, (48, 64), (32, 32)).image(np.zeros((24, 32, 3), np.uint8))


def test_normalise_is_channels_first_and_centred():
    image = np.tile(np.array((0.485, 0.456, 0.406)) * 255, (4, 5, 1))
    normalised = normalise(image)
    assert normalised.shape == (3, 4, 5) and normalised.dtype == np.float32
    np.testing.assert_allclose(normalised, 0.0, atol=1e-6)


def test_convention_resizing_happens_in_float():
    """Halving a 0/255 checker of columns gives 127.5; rounding to uint8 in between would give 127 or 128."""
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 1::2] = 255
    np.testing.assert_array_equal(Preprocessor(K, (4, 8), (4, 4)).image(image), np.float32(127.5))


@pytest.mark.parametrize("crop", [True, False])
def test_the_network_gets_the_published_numbers_on_a_cpu(crop):
    raw = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    preprocessor = Preprocessor(K, (120, 200), (64, 96), crop=crop)
    normalised, resized = preprocessor.network_image(raw, torch.device("cpu"))
    np.testing.assert_array_equal(resized.numpy(), preprocessor.image(raw))
    np.testing.assert_array_equal(normalised[0].numpy(), normalise(preprocessor.image(raw)))
    assert normalised.is_contiguous() and normalised.dtype == torch.float32


@pytest.mark.parametrize(("size", "new_size"), [((120, 200), (64, 96)), ((40, 60), (64, 96)), ((64, 96), (64, 96))])
def test_a_device_resizes_as_opencv_does(size, new_size):
    raw = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = Preprocessor(K, size, new_size).image(raw)
    np.testing.assert_allclose(resized_tensor(torch.from_numpy(raw), new_size).numpy(), expected, rtol=1e-4, atol=2e-3)


FRAME_K = np.array(((100.0, 0, 32), (0, 100.0, 24), (0, 0, 1)))


def make_frame(image=None, K=FRAME_K, world_T_cam=None):
    image = np.zeros((48, 64, 3), np.uint8) if image is None else image
    return Frame(image, K, np.eye(4) if world_T_cam is None else world_T_cam, stamp_ns=1)


def test_frame_takes_lists_and_makes_float64():
    frame = make_frame(K=FRAME_K.tolist(), world_T_cam=np.eye(4, dtype=np.float32))
    assert frame.K.dtype == frame.world_T_cam.dtype == np.float64


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("image", np.zeros((48, 64), np.uint8), r"\(H, W, 3\); got \(48, 64\)"),
        ("image", np.zeros((48, 64, 4), np.uint8), r"got \(48, 64, 4\)"),
        ("image", np.zeros((0, 64, 3), np.uint8), r"got \(0, 64, 3\)"),
        ("image", np.zeros((48, 64, 3), np.float32), "uint8 RGB; got float32"),
        ("image", [[[0, 0, 0]]], "must be an array .* got list"),
        ("image", "x", "must be an array .* got str"),
        ("K", np.zeros((3, 4)), r"K must have shape \(3, 3\); got \(3, 4\)"),
        ("K", np.diag((0.0, 100.0, 1.0)), "fx=0"),
        ("K", np.diag((100.0, -5.0, 1.0)), "fy=-5"),
        ("K", np.diag((np.nan, 100.0, 1.0)), "finite"),
        ("K", "x", "must be numbers"),
        ("K", [[1.0, 2.0], [3.0]], "must be numbers"),
        ("K", np.diag((1e-300, 1e-300, 1.0)), "focal lengths of at least"),
        ("K", np.diag((1e300, 1e300, 1.0)), "nothing beyond 1e"),
        ("K", ((100.0, 0.0, 1e200), (0.0, 100.0, 24.0), (0.0, 0.0, 1.0)), "nothing beyond 1e"),
        ("K", ((100.0, 100.0, 0.0), (100.0, 100.0, 0.0), (0.0, 0.0, 1.0)), "must have the rows"),
        ("world_T_cam", np.eye(3), r"\(4, 4\); got \(3, 3\)"),
        ("world_T_cam", np.diag((2.0, 2.0, 2.0, 1.0)), "rotation"),
        ("world_T_cam", np.diag((1.0, 1.0, -1.0, 1.0)), "rotation"),
        ("world_T_cam", np.diag((1.0, 1.0, 1.0, 2.0)), "row 0 0 0 1"),
        ("world_T_cam", "x", "must be numbers"),
        ("world_T_cam", [[1.0], [2.0, 3.0]], "must be numbers"),
        (
            "world_T_cam",
            ((1.0, 0.0, 0.0, 1e300), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
            "of the origin",
        ),
    ],
)
def test_a_part_of_a_frame_that_cannot_be_is_refused(part, value, message):
    with pytest.raises(FrameError, match=message):
        make_frame(**{part: value})


@pytest.mark.parametrize("stamp", ["1", 1.0, float("nan"), None])
def test_a_stamp_is_whole_nanoseconds(stamp):
    with pytest.raises(FrameError, match="must be integers"):
        Frame(np.zeros((48, 64, 3), np.uint8), FRAME_K, np.eye(4), stamp)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_lost_pose_is_a_frame(bad):
    assert make_frame(world_T_cam=np.full((4, 4), bad)).world_T_cam.shape == (4, 4)
