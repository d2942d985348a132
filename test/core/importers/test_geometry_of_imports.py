# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Every format that is imported, written as its own tool writes it: known points of the world must be where they are.

A world of coloured balls is drawn with each format's camera, poses and depth. In the imported scene each ball's centre
must project onto it by K and the pose, and the depth there must be its own.
"""

from __future__ import annotations

import numpy as np
import pytest
import small_inputs as small
from written_recordings import COLOURS, FRAMES, POINTS, STEP_NS, WRITERS

from dvmvs_core.data.open_sequence import open_sequence


def centre(image: np.ndarray, colour, near: np.ndarray) -> np.ndarray:
    """The centre (x, y) of the ball of a colour that is near a pixel."""
    x, y = np.rint(near).astype(int)
    left, top = max(0, x - 9), max(0, y - 9)
    part = image[top : y + 10, left : x + 10].astype(float)
    background, ball = np.full(3, 30.0), np.array(colour, float)
    share = ((part - background) @ (ball - background)) / ((ball - background) @ (ball - background))
    share = np.where(share < 0.15, 0, share.clip(0, 1))
    assert share.sum() > 20, "there is no ball"
    rows, columns = np.indices(share.shape)
    return np.array(((columns * share).sum(), (rows * share).sum())) / share.sum() + (left, top)


@pytest.mark.parametrize("name", WRITERS)
def test_known_points_are_where_they_must_be(tmp_path, import_recording, name):
    how = WRITERS[name]
    assert import_recording(name)[0] == 0
    (scene,) = (tmp_path / "out").iterdir()
    sequence = open_sequence(scene)
    frames = list(sequence.items())
    assert len(frames) == FRAMES and not sequence.dropped
    for i, item in enumerate(frames):
        shown = item.frame.image if item.valid_mask is None else item.frame.image[item.valid_mask]
        assert shown.any(axis=-1).all(), "what the lens does not show is masked"
        R, t = item.frame.world_T_cam[:3, :3], item.frame.world_T_cam[:3, 3]
        for point, colour in zip(POINTS, COLOURS, strict=True):
            seen = item.frame.K @ (R.T @ (point - t))
            pixel = seen[:2] / seen[2]
            found = centre(item.frame.image, colour, pixel)
            assert np.abs(found - pixel).max() < how.pixels, (i, colour, found, pixel)
            if item.sensor_depth is not None:
                column, row = np.rint(pixel).astype(int)
                assert item.sensor_depth[row, column] == pytest.approx(seen[2], abs=0.003)
        if name.startswith(("stray", "record3d")):
            assert not item.sensor_depth[:16].any(), "depth of no confidence"
    assert sequence.has_depth == how.depth
    steps = np.diff([item.frame.stamp_ns for item in frames])
    if (scene / "stamps.txt").exists():
        np.testing.assert_allclose(steps, STEP_NS, atol=1000)
    else:
        assert name.startswith(("transforms", "colmap", "open3d", "seven_scenes"))


def test_what_a_lens_does_not_show_has_no_depth(tmp_path, import_by_command):
    """A lens that draws corners outwards: straightened, the image's corners were never in view."""
    for i in range(3):
        small.write(tmp_path / f"walk/{100 + i}.png", np.full((48, 64, 3), 90, np.uint8))
    poses = tmp_path / "poses.txt"
    poses.write_text("".join(f"{100 + i} {0.1 * i} 0 0 0 0 0 1\n" for i in range(3)))
    camera = ("--intrinsics", 50, 50, 31.5, 23.5, "--distortion", 0.4, 0, 0, 0, 0)
    assert import_by_command("trajectory", tmp_path / "walk", "--poses", poses, *camera)[0] == 0
    (scene,) = (tmp_path / "out").iterdir()
    item = next(iter(open_sequence(scene).items()))
    assert not item.valid_mask[0, 0] and item.valid_mask[24, 32] and (item.frame.image[item.valid_mask] == 90).all()
