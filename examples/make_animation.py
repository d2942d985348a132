# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Draw README's animation: image, depth and the growing cloud of the walk in examples/room, from the default network.

    .venv/bin/python examples/make_animation.py docs/room.webp

The cloud holds depths that are more likely right than not (confidence from 0.5).
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from dvmvs_core.atomic import replacing
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.engine import DepthEngine
from dvmvs_core.evaluation.prediction.depth_pictures import depth_panel, with_legend
from dvmvs_core.evaluation.prediction.predict_sequence import predict_online
from dvmvs_core.evaluation.prediction.virtual_camera import VirtualCamera
from dvmvs_core.evaluation.report.cloud_picture import SIDES_DEG, Cloud, draw_cloud
from dvmvs_core.geometry import backproject

ROOM = Path(__file__).with_name("room")
CLOUD_SIZE = (256, 400)
MIN_CONFIDENCE = 0.5
FRAME_MS, LAST_MS = 200, 3000
QUALITY = 60


def main(out: Path) -> None:
    """Write the animation `out`, of a suffix that OpenCV animates: webp or gif."""
    engine = DepthEngine.from_weights("small")
    predictions = [prediction for prediction, _ in predict_online(engine, open_sequence(ROOM))]
    poses = [prediction.world_T_cam for prediction in predictions]
    near_m, far_m = np.percentile([p.depth for p in predictions], (2, 98))

    def add(cloud: Cloud, prediction) -> None:
        keep = prediction.confidence >= MIN_CONFIDENCE
        points = backproject(prediction.depth, prediction.K)[keep]
        cloud.add(points, prediction.image[keep], prediction.world_T_cam)

    whole, growing = Cloud(), Cloud()
    for prediction in predictions:
        add(whole, prediction)
    view = VirtualCamera.of_side(whole.points, poses, SIDES_DEG[0], CLOUD_SIZE)
    animation = cv2.Animation()
    pictures = []
    for number, prediction in enumerate(predictions, start=1):
        add(growing, prediction)
        panels = (
            with_legend("image", prediction.image),
            depth_panel("depth", prediction.depth, near_m, far_m),
            with_legend("cloud", draw_cloud(growing, view, poses[:number])),
        )
        pictures.append(cv2.cvtColor(np.hstack(panels), cv2.COLOR_RGB2BGR))
    animation.frames = pictures
    animation.durations = np.array([FRAME_MS] * (len(pictures) - 1) + [LAST_MS])
    with replacing(out) as unfinished:
        if not cv2.imwriteanimation(str(unfinished), animation, [cv2.IMWRITE_WEBP_QUALITY, QUALITY]):
            raise SystemExit(f"{out} cannot be written")
    print(f"{out}: {len(pictures)} keyframes, {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
