# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Procedural walks as scene folders, or as a training set, with contact sheets to look at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dvmvs_core.atomic import replacing
from dvmvs_core.data.encodings.pictures import colour_depth
from dvmvs_core.errors import DataError
from dvmvs_core.importers.dataset import ImportedFrame
from dvmvs_core.importers.scene_writer import SceneFolder, read_record, writing
from dvmvs_core.importers.split import split_by_place, write_split
from dvmvs_core.synthetic.clips import SyntheticClips, clip_frame, render_sequence
from dvmvs_core.synthetic.paths import FRAME_RATE_HZ

CONTACT_SHEET = "contact_sheet.png"

_SHEET_FRAMES = 6
_SHEET_SCENES = 8
_SHEET_NEAREST_M, _SHEET_FARTHEST_M = 0.6, 8.0
_FIRST_STAMP_NS = 1_000_000_000
_CLIP_TEXTURES, _CLIP_RATE_HZ = 0, 1.0


@dataclass(frozen=True)
class SceneFormat:
    """How a walk is filmed and written.

    Attributes:
        frames: Length, at 30 frames a second unless these are clips.
        height: Image height.
        width: Image width.
        samples: Colour rays per pixel side.
        training: Whether to write the published training layout (npz frames) instead of images.
        clips: Whether to film keyframes as networks are trained on, of cameras that walk, look at near things or stay
            where they are, instead of a walk at 30 frames a second.
    """

    frames: int
    height: int
    width: int
    samples: int = 1
    training: bool = False
    clips: bool = False


def write_scene(out: Path, seed: int, how: SceneFormat, advance: Callable[[int], None] = lambda steps: None) -> None:
    """Render a walk or a clip and write it, whole or not at all.

    Args:
        out: The new folder.
        seed: Seeds everything.
        how: Length, size and layout.
        advance: Called with 1 after each frame.

    Raises:
        DataError: Where `out` exists or cannot be written, or no frame is asked for.
    """
    if os.path.lexists(out):
        raise DataError(f"{out} exists already; name a folder that does not, or move it away")
    rendered, K = _film(seed, how)
    folder = SceneFolder(out, training=how.training, pose_format="%.12g")
    wanted = set(np.linspace(0, how.frames - 1, min(how.frames, _SHEET_FRAMES)).round().astype(int).tolist())
    columns = []
    try:
        for number, (image, depth, world_T_cam) in enumerate(rendered):
            millimetres = np.rint(depth * 1000.0).clip(0, 65535).astype(np.uint16)
            stamp_ns = _FIRST_STAMP_NS + round(number * 1e9 / (_CLIP_RATE_HZ if how.clips else FRAME_RATE_HZ))
            folder.add(ImportedFrame(image, millimetres, world_T_cam, stamp_ns))
            if number in wanted:
                in_colours = colour_depth(depth, _SHEET_NEAREST_M, _SHEET_FARTHEST_M)
                columns.append(np.concatenate([image, in_colours], axis=0))
            advance(1)
        folder.finish(K, _record(seed, how))
    except BaseException:
        folder.discard()
        raise
    _write_sheet(out, cv2.cvtColor(np.concatenate(columns, axis=1), cv2.COLOR_RGB2BGR))


def write_scenes(
    out: Path, seed: int, scenes: int, how: SceneFormat, advance: Callable[[int], None] = lambda steps: None
) -> tuple[int, int]:
    """Write a folder of scenes, each from a seed of its own; those that an earlier run finished stay as they are.

    A training set also gets its train.txt and validation.txt, and every set a contact sheet of its first scenes.

    Args:
        out: The folder, made if it is missing.
        seed: Of the first scene; each other has the next.
        scenes: How many.
        how: Length, size and layout of each.
        advance: Called with the number of frames that are done.

    Returns:
        How many scenes were made now, and how many before.

    Raises:
        DataError: Where no scene is asked for, a folder made otherwise is in the way, or something cannot be written.
    """
    if scenes < 1:
        raise DataError(f"a set needs at least one scene; got {scenes}")
    names = [f"synthetic{number:06d}" for number in range(seed, seed + scenes)]
    made = 0
    for number, name in enumerate(names, start=seed):
        record = read_record(out / name)
        if record is None:
            write_scene(out / name, number, how, advance)
            made += 1
        elif record == _record(number, how):
            advance(how.frames)
        else:
            raise DataError(f"{out / name} was made otherwise ({record}); name another OUT, or remove it")
    if how.training:
        write_split(out, *split_by_place(names))
    sheets = [cv2.imread(str(out / name / CONTACT_SHEET)) for name in names[:_SHEET_SCENES]]
    _write_sheet(out, np.concatenate([sheet for sheet in sheets if sheet is not None], axis=0))
    return made, scenes - made


def _film(seed: int, how: SceneFormat) -> tuple[Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]], np.ndarray]:
    """Frames of image, depth and pose, and intrinsics, as of `render_sequence`."""
    if not how.clips:
        return render_sequence(seed, how.frames, how.height, how.width, how.samples)
    size = how.height, how.width, how.frames
    # All share the textures of one seed, which take seconds to make.
    clip = SyntheticClips(*size, seed=seed, samples=how.samples, pose_noise=0.0, texture_seed=_CLIP_TEXTURES).batch(
        1, 0
    )
    frames = (clip_frame(clip, index) for index in range(how.frames))
    filmed = (
        (frame.image, depth.numpy(), frame.world_T_cam) for frame, depth in zip(frames, clip.depth[0], strict=True)
    )
    return filmed, clip.K[0].double().numpy()


def _record(seed: int, how: SceneFormat) -> dict[str, object]:
    """What a scene remembers of how it was made, and what an earlier run must agree with."""
    return {
        "made by": "dvmvs synthesize",
        "seed": seed,
        "frames": how.frames,
        "size": [how.height, how.width],
        "samples": how.samples,
        "training": how.training,
        **({"clips": True} if how.clips else {}),
    }


def _write_sheet(folder: Path, sheet: np.ndarray) -> None:
    """Write a BGR contact sheet into a folder."""
    with writing(folder), replacing(folder / CONTACT_SHEET) as unfinished:
        unfinished.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())
