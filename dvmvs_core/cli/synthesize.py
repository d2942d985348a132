"""Make a scene that never was: a hand-held walk through a procedural room, with exact depth and poses.

The same seed gives the same scene. It comes as a scene folder with stamps and a contact sheet, or as npz frames to
train with; the worlds are those that `dvmvs train` learns from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dvmvs_core.cli.options import Count


@dataclass(frozen=True)
class Options:
    """Make a procedural scene."""

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """folder of the new scene; it must not exist yet"""
    seed: int = 0
    """chooses the world, the path and the camera"""
    frames: Count = 120
    """how many, at 30 a second"""
    height: Count = 240
    """image height in pixels"""
    width: Count = 320
    """image width in pixels"""
    samples: Count = 1
    """colour rays along each side of a pixel: 2 smooths edges and takes four times as long"""
    npz: bool = False
    """write the published training layout instead of images"""


def run(options: Options) -> None:
    """Render the scene and say where it lies."""
    from dvmvs_core.cli.progress import progress
    from dvmvs_core.data.synthetic.scene import CONTACT_SHEET, write_scene

    size = (options.height, options.width)
    with progress(f"rendering {options.out}", options.frames) as advance:
        write_scene(options.out, options.seed, options.frames, *size, options.samples, options.npz, advance)
    print(f"{options.out}: {options.frames} frames of {options.width}x{options.height}, and {CONTACT_SHEET}")
