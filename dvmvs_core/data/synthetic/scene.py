"""A procedural walk as a scene folder, with a contact sheet to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from dvmvs_core.data.atomic import replacing
from dvmvs_core.data.exporters.frames import ExportFrame
from dvmvs_core.data.exporters.scene_folder import SceneFolder, writing
from dvmvs_core.data.synthetic.clips import render_sequence
from dvmvs_core.data.synthetic.paths import FRAME_RATE_HZ
from dvmvs_core.errors import DataError

CONTACT_SHEET = "contact_sheet.png"

_SHEET_FRAMES = 6
_SHEET_NEAREST_M, _SHEET_FARTHEST_M = 0.6, 8.0
_FIRST_STAMP_NS = 1_000_000_000


def write_scene(
    out: Path,
    seed: int,
    frames: int,
    height: int,
    width: int,
    samples: int = 1,
    training: bool = False,
    advance: Callable[[int], None] = lambda steps: None,
) -> None:
    """Render a walk and write it, whole or not at all.

    Args:
        out: The new folder.
        seed: Seeds everything.
        frames: Length, at 30 frames a second.
        height: Image height.
        width: Image width.
        samples: Colour rays per pixel side.
        training: Whether to write the published training layout (npz frames) instead of images.
        advance: Called with 1 after each frame.

    Raises:
        DataError: Where `out` exists or cannot be written, or no frame is asked for.
    """
    if out.exists():
        raise DataError(f"{out} exists already; name a folder that does not, or move it away")
    rendered, K = render_sequence(seed, frames, height, width, samples)
    folder = SceneFolder(out, training=training, pose_format="%.12g")
    wanted = set(np.linspace(0, frames - 1, min(frames, _SHEET_FRAMES)).round().astype(int).tolist())
    columns = []
    try:
        for number, (image, depth, world_T_cam) in enumerate(rendered):
            millimetres = np.rint(depth * 1000.0).clip(0, 65535).astype(np.uint16)
            stamp_ns = _FIRST_STAMP_NS + round(number * 1e9 / FRAME_RATE_HZ)
            folder.add(ExportFrame(image, millimetres, world_T_cam, stamp_ns))
            if number in wanted:
                columns.append(np.concatenate([image, _coloured(depth)], axis=0))
            advance(1)
        folder.finish(K, {"made by": "dvmvs synthesize", "seed": seed, "frames": frames, "size": [height, width]})
    except BaseException:
        folder.discard()
        raise
    sheet = cv2.cvtColor(np.concatenate(columns, axis=1), cv2.COLOR_RGB2BGR)
    with writing(out), replacing(out / CONTACT_SHEET) as unfinished:
        unfinished.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())


def _coloured(depth: np.ndarray) -> np.ndarray:
    """Colour depth (H, W) in metres by its inverse, near things red, as (H, W, 3) uint8 RGB."""
    nearest, farthest = 1.0 / _SHEET_NEAREST_M, 1.0 / _SHEET_FARTHEST_M
    share = (1.0 / np.maximum(depth, 1e-3) - farthest) / (nearest - farthest)
    coloured = cv2.applyColorMap((share.clip(0.0, 1.0) * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    return cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB)
