# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""COLMAP models with their images; metres by a scale that must be given, since the model has none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dvmvs_core.data.file_order import natural_key
from dvmvs_core.data.scene_folder import read_image
from dvmvs_core.errors import DataError
from dvmvs_core.importers.colmap_model import ColmapImage, read_model
from dvmvs_core.importers.dataset import Dataset, Scene, SceneInput, SkippedFrame
from dvmvs_core.importers.formats import ColmapOptions
from dvmvs_core.importers.posed_scene import Camera, PosedImage, PosedScene

PLACES = (".", "sparse", "sparse/0", "colmap/sparse/0", "dense/sparse", "dense/0/sparse")


@dataclass(frozen=True)
class Colmap(Dataset):
    """COLMAP models."""

    published: bool
    options: ColmapOptions
    title = "COLMAP"

    def find(self, root: Path) -> list[SceneInput]:
        """Return the model in a folder, or in the usual folders below it."""
        found = [
            root / place
            for place in PLACES
            if any((root / place / f"images.{suffix}").exists() for suffix in ("bin", "txt"))
        ]
        # A workspace may hold the model of images that are not with it, and that of the undistorted ones that are.
        found.sort(key=lambda folder: self.options.images is None and _images_of(folder, root) is None)
        if found:
            if found[0] != root:
                _check_alone(found[0])
            return [SceneInput(root.resolve().name, found[0])]
        raise DataError(f"{root} holds no COLMAP model: looked for images.bin and images.txt in {', '.join(PLACES)}")

    def open(self, scene: SceneInput) -> Scene:
        """Read the model; images are read when they are wanted."""
        cameras, images = read_model(scene.path)
        folder = self._image_folder(scene.path)
        ordered = sorted(images, key=lambda image: natural_key(image.name))
        return PosedScene([self._frame(folder, cameras, image) for image in ordered])

    def _image_folder(self, model: Path) -> Path:
        if self.options.images is not None:
            return self.options.images
        folder = _images_of(model, model.resolve().parents[2])
        if folder is not None:
            return folder
        raise DataError(f"there is no folder images/ beside {model} or above it: name it with --images")

    def _frame(self, folder: Path, cameras: dict[int, Camera], image: ColmapImage) -> PosedImage | SkippedFrame:
        path = folder / image.name
        if image.camera_id not in cameras:
            return SkippedFrame(image.name, f"the model has no camera {image.camera_id}")
        if not path.is_file():
            return SkippedFrame(image.name, f"there is no {path}")
        world_T_cam = image.world_T_cam.copy()
        world_T_cam[:3, 3] *= self.options.scale
        return PosedImage(image.name, partial(read_image, path), cameras[image.camera_id], world_T_cam)


def _check_alone(model: Path) -> None:
    """Refuse one of the models that COLMAP makes of images that it cannot join: another may be the one that is meant.

    Raises:
        DataError: if there are others beside it.
    """
    if model.name != "0":
        return
    models = sorted({path.parent.name for ending in ("bin", "txt") for path in model.parent.glob(f"*/images.{ending}")})
    if len(models) > 1:
        raise DataError(
            f"{model.parent} holds {len(models)} models ({', '.join(models)}), each with axes and a scale of its own:"
            " name the folder of one as IN"
        )


def _images_of(model: Path, top: Path) -> Path | None:
    """The folder of images beside a model or above it, not above the folder `top`."""
    for place in (model.resolve(), *model.resolve().parents):
        if (place / "images").is_dir():
            return place / "images"
        if place == top.resolve():
            break
    return None
