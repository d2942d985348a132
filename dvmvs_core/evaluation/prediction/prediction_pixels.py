# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Pictures and depth of a camera at the pixels of predictions, cropped and resized as predictions were."""

from __future__ import annotations

import numpy as np

from dvmvs_core.errors import DataError
from dvmvs_core.preprocess import Preprocessor


def resize_truth(
    sensor_depth: np.ndarray, K: np.ndarray, size: tuple[int, int], prediction_K: np.ndarray
) -> np.ndarray:
    """Return sensor depth (H, W) at the predictions' resolution (h, w), cropped as they were, by nearest neighbour.

    Raises:
        DataError: if no crop leads from K to the intrinsics of the predictions.
    """
    return as_predicted(K, sensor_depth.shape, size, prediction_K).depth(sensor_depth)


def as_predicted(
    K: np.ndarray, camera_size: tuple[int, int], size: tuple[int, int], prediction_K: np.ndarray
) -> Preprocessor:
    """Return what brings pictures of a camera to the resolution of predictions, cropped as they were.

    Args:
        K: (3, 3) intrinsics of the camera.
        camera_size: (H, W) of its pictures.
        size: (h, w) of the predictions.
        prediction_K: (3, 3) their intrinsics.

    Raises:
        DataError: if no crop leads from K to the intrinsics of the predictions.
    """
    for crop in (False, True):
        preprocessor = Preprocessor(K, camera_size, size, crop=crop)
        if np.allclose(preprocessor.K, prediction_K, rtol=1e-5):
            return preprocessor
    raise DataError(
        f"the predictions have intrinsics {np.round(prediction_K, 2).tolist()}, which do not follow from the sequence's"
        f" {np.round(K, 2).tolist()}: they belong to another sequence"
    )
