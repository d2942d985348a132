# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Write scene folders anew with their frames in the opposite order: recordings of a camera that goes back.

    python benchmarks/backwards.py SCENE ... --out FOLDER
    python benchmarks/field.py FOLDER

Whatever was chosen with a recording in view was not chosen with this one: depth starts where the other ended, and every
keyframe has another past. Images and depth are links.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from dvmvs_core.atomic import unfinished_folder
from dvmvs_core.data.file_order import ordered_files
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.scene_folder import IMAGE_SUFFIXES, SceneSequence
from dvmvs_core.errors import DataError, DvmvsError

FOR_ALL_FRAMES = ("K.txt", "depth_scale.txt", "mask.png")
NANOSECONDS = 1e9


def write_backwards(scene: SceneSequence, folder: Path) -> None:
    """Write a scene folder with the frames of another in the opposite order.

    Raises:
        DataError: if the folder exists, or an image has no pose.
    """
    if folder.exists():
        raise DataError(f"{folder} exists already; remove it or choose another folder")
    images = ordered_files(scene.path / "images", IMAGE_SUFFIXES)
    frames = [item.frame for item in scene.items(False)]
    if len(frames) != len(images):
        raise DataError(f"{scene.path} has {len(images)} images, of which only {len(frames)} can be used: leave it out")
    depths = {path.stem: path for path in ordered_files(scene.path / "depth", (".png",))}
    with unfinished_folder(folder) as temporary:
        unfinished = temporary / folder.name
        for kind in ("images", "depth") if depths else ("images",):
            (unfinished / kind).mkdir(parents=True)
        for number, image in enumerate(reversed(images)):
            _link(image, unfinished / "images" / f"{number:06d}{image.suffix}")
            if image.stem in depths:
                _link(depths[image.stem], unfinished / "depth" / f"{number:06d}.png")
        for name in filter(lambda name: (scene.path / name).exists(), FOR_ALL_FRAMES):
            _link(scene.path / name, unfinished / name)
        np.savetxt(unfinished / "poses.txt", [frame.world_T_cam.ravel() for frame in reversed(frames)])
        stamps = np.array([frame.stamp_ns for frame in frames])
        np.savetxt(unfinished / "stamps.txt", (stamps[-1] + stamps[0] - stamps[::-1]) / NANOSECONDS, fmt="%.6f")
        unfinished.rename(folder)


def _link(source: Path, link: Path) -> None:
    link.symlink_to(source.resolve())


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="+", type=Path, metavar="SCENE", help="scene folders")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where those of the same names go")
    options = parser.parse_args(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        for path in options.scenes:
            scene = open_sequence(path)
            if not isinstance(scene, SceneSequence):
                raise DataError(f"{path} is no scene folder; dvmvs bag or dvmvs import makes one of a recording")
            write_backwards(scene, options.out / path.resolve().name)
    except DvmvsError as error:
        print(f"backwards.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
