# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The demo's recording in a viewer: rerun, which gets a file of its own, or Foxglove, which opens the mcap.

The rerun file shows the room as the depth node saw it: camera and path, every keyframe's cloud where it belongs, image
and depth next to each other, and how long the network took.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sensor_msgs.msg import PointCloud2

from dvmvs_core.atomic import replacing
from dvmvs_core.data.bags.bag_files import BagFiles, deserialise
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.errors import ConfigError, DataError
from dvmvs_core.geometry import is_finite_pose
from dvmvs_ros import recorder_node
from dvmvs_ros.depth.frame_status import FrameStatus
from dvmvs_ros.messages.conversions import (
    MAX_MILLIMETRES,
    camera_from_message,
    depth_from_message,
    points_from_message,
    stamp_to_ns,
)
from dvmvs_ros.process.children import ROOT

RERUN, FOXGLOVE = VIEWS = ("rerun", "foxglove")

LAYOUT = ROOT / "config" / "foxglove.json"

TIMELINE = "recording"
CLOUD_POINTS = 12_000
"""Points kept of each cloud: fifty clouds stay in view at once, and a file of them small."""
JPEG_QUALITY = 90


def check_view(view: str | None) -> None:
    """Raise now rather than after the demo if the viewer's package is missing.

    Raises:
        ConfigError: saying what to install.
    """
    if view != RERUN:
        return
    try:
        import rerun  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--view rerun needs the package rerun-sdk, which cannot be imported ({error}); install it with"
            " `pip install 'dvmvs_ros[view]'`, or with `make demo VIEW=rerun`"
        ) from error


def open_view(view: str, mcap: Path) -> str:
    """Prepare a recording for a viewer, and open it where there is a screen and a viewer.

    Args:
        view: "rerun" or "foxglove".
        mcap: the demo's recording.

    Returns:
        One line for the user: what to do to see it.

    Raises:
        DataError: if the recording holds no pose.
    """
    if view == FOXGLOVE:
        return f"Foxglove: open {mcap}, and import the layout {os.path.relpath(LAYOUT)}"
    rrd = mcap.with_suffix(".rrd")
    write_rerun(mcap, rrd)
    command = [sys.executable, "-m", "rerun", str(rrd)]
    if not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        return f"rerun: no screen here; {' '.join(command)} opens it where there is one"
    subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    return f"rerun: {rrd} is opening"


def write_rerun(mcap: Path, rrd: Path) -> None:
    """Write a demo's recording as a rerun file.

    Args:
        mcap: what the recorder node recorded.
        rrd: the file to write.

    Raises:
        DataError: if the recording holds no pose.
    """
    import rerun as rr

    with replacing(rrd) as unfinished:
        stream = rr.RecordingStream("dvmvs_ros")
        stream.save(unfinished)
        # Not as save's default_blueprint: the viewer takes a file that begins with a blueprint for one without data.
        stream.send_blueprint(_blueprint())
        stream.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        poses = _log_camera(stream, mcap)
        _log_outputs(stream, mcap, poses)
        stream.flush()
        stream.disconnect()


def _blueprint():
    import rerun.blueprint as rrb

    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Spatial3DView(origin="world", contents=["+ world/**", "- world/keyframe/**"], name="Clouds"),
            rrb.Vertical(
                rrb.Spatial2DView(origin="world/camera/image", name="Image"),
                rrb.Spatial2DView(origin="world/keyframe/depth", name="Depth of the last keyframe"),
                rrb.TimeSeriesView(origin="network_ms", name="Network, ms"),
                row_shares=[3, 3, 1],
            ),
            column_shares=[3, 2],
        ),
        rrb.TimePanel(state="collapsed"),
        collapse_panels=True,
    )


def _log_camera(stream, mcap: Path) -> dict[int, np.ndarray]:
    """Log images, intrinsics and the path; returns world_T_cam by stamp."""
    import rerun as rr

    poses: dict[int, np.ndarray] = {}
    for item in open_sequence(mcap).items():
        frame = item.frame
        height, width = frame.image.shape[:2]
        stream.set_time(TIMELINE, duration=frame.stamp_ns * 1e-9)
        if is_finite_pose(frame.world_T_cam):
            poses[frame.stamp_ns] = frame.world_T_cam
            stream.log("world/camera", _transform(frame.world_T_cam))
        pinhole = rr.Pinhole(
            image_from_camera=frame.K,
            width=width,
            height=height,
            camera_xyz=rr.ViewCoordinates.RDF,
            image_plane_distance=0.3,
        )
        stream.log("world/camera/image", pinhole, rr.Image(frame.image).compress(jpeg_quality=JPEG_QUALITY))
    if not poses:
        raise DataError(f"{mcap} holds no image with a pose, so there is nothing to show in three dimensions")
    path = np.array([world_T_cam[:3, 3] for world_T_cam in poses.values()])
    stream.log("world/path", rr.LineStrips3D([path], colors=[(255, 170, 0)]), static=True)
    return poses


def _log_outputs(stream, mcap: Path, poses: dict[int, np.ndarray]) -> None:
    """Log depth, clouds and times of the keyframes."""
    import rerun as rr

    for topic, stamp_ns, message in _outputs(mcap):
        stream.set_time(TIMELINE, duration=stamp_ns * 1e-9)
        if topic == recorder_node.STATUS:
            status = FrameStatus.from_message(message)
            if status.has_depth:
                stream.log("network_ms", rr.Scalars(status.inference_ms))
        elif topic == recorder_node.DEPTH_INFO:
            camera = camera_from_message(message)
            pinhole = rr.Pinhole(image_from_camera=camera.K, width=message.width, height=message.height)
            stream.log("world/keyframe/depth", pinhole)
        elif topic == recorder_node.DEPTH:
            # Half the size of metres as float32.
            millimetres = np.rint(1e3 * depth_from_message(message).clip(0, MAX_MILLIMETRES / 1e3)).astype(np.uint16)
            stream.log("world/keyframe/depth", rr.DepthImage(millimetres, meter=1000.0, colormap="turbo"))
        elif stamp_ns in poses:
            points_world, colours = cloud_in_world(message, poses[stamp_ns])
            # An entity of its own: a cloud stays when the next one comes. Negative radii are pixels of the screen.
            stream.log(f"world/clouds/{stamp_ns}", rr.Points3D(points_world, colors=colours, radii=-1.5))


def cloud_in_world(message: PointCloud2, world_T_cam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, 3) points in the world frame and (N, 3) uint8 RGB of a cloud, thinned to CLOUD_POINTS at most."""
    points, colours = points_from_message(message)
    keep = np.linspace(0, len(points) - 1, min(len(points), CLOUD_POINTS)).astype(np.int64)
    return points[keep] @ world_T_cam[:3, :3].T + world_T_cam[:3, 3], colours[keep]


def _outputs(mcap: Path) -> Iterator[tuple[str, int, object]]:
    """Yield (topic, stamp, message) of what the depth node published, as recorded."""
    files = BagFiles(mcap)
    topics = (recorder_node.DEPTH, recorder_node.DEPTH_INFO, recorder_node.POINTS, recorder_node.STATUS)
    for raw in files.messages({f"/{topic}" for topic in topics}):
        message = deserialise(raw.data, files.topics[raw.topic].message_type)
        yield raw.topic.removeprefix("/"), stamp_to_ns(message.header.stamp), message


def _transform(world_T_cam: np.ndarray):
    import rerun as rr

    return rr.Transform3D(translation=world_T_cam[:3, 3], mat3x3=world_T_cam[:3, :3])
