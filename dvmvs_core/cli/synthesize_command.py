# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Render hand-held walks through procedural rooms, with exact depth and poses.

The same seed gives the same scene, as a scene folder with a contact sheet or, with --npz, as training files. `dvmvs
train` uses the same generator. With --scenes N, OUT holds N scenes, a contact sheet and, with --npz, the lists that
`dvmvs train --data OUT` reads; scenes finished by an earlier run are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from dvmvs_core.cli.common_options import Count, NewFolder, OptionalCount
from dvmvs_core.progress import progress


@dataclass(frozen=True)
class Options:
    """Make a procedural scene."""

    out: NewFolder
    """folder of the new scene, which must not exist yet; with --scenes the folder that holds them all"""
    seed: int = 0
    """chooses the world, the path and the camera"""
    scenes: OptionalCount = None
    """make so many scenes, with this seed and the next ones"""
    frames: Count = 120
    """how many; at 30 a second without --clips"""
    height: Count = 240
    """image height in pixels"""
    width: Count = 320
    """image width in pixels"""
    samples: Count = 1
    """colour rays along each side of a pixel: 2 smooths edges and takes four times as long"""
    npz: bool = False
    """write the published training layout instead of images"""
    clips: bool = False
    """film keyframes as networks are trained on, of cameras that walk, look at near things or stay where they are"""


def run(options: Options) -> None:
    """Render and say where it lies."""
    from dvmvs_core.synthetic.rendered_scenes import CONTACT_SHEET, SceneFormat, write_scene, write_scenes

    how = SceneFormat(options.frames, options.height, options.width, options.samples, options.npz, options.clips)
    each = f"{options.frames} frames of {options.width}x{options.height}"
    with progress(f"rendering {options.out}", options.frames * (options.scenes or 1)) as advance:
        if options.scenes is None:
            write_scene(options.out, options.seed, how, advance)
            made = each
        else:
            new, before = write_scenes(options.out, options.seed, options.scenes, how, advance)
            made = f"{new} scenes of {each}" + (f", {before} were there before" if before else "")
    print(f"{options.out}: {made}, and {CONTACT_SHEET}")
