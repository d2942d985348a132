# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Faults that `soak.py` injects into a running depth node: one function each, of the rows of docs/reliability.md."""

from __future__ import annotations

import signal
import time
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from lifecycle_msgs.msg import Transition
from rclpy.serialization import serialize_message
from tf2_msgs.msg import TFMessage

from dvmvs_ros.messages.conversions import make_header, mask_message, rgb_message, transform_message

if TYPE_CHECKING:
    from soak import World

HOUR_NS = 3600 * 10**9
LARGEST = (1500, 2000)


def truncated_image(world: World, rng: Random) -> None:
    """Send an image that ends early."""
    message = world.picture_message()
    del message.data[rng.randrange(len(message.data)) :]
    world.publish_image(message)


def unknown_encoding(world: World, rng: Random) -> None:
    """Send an image in an encoding that nobody knows."""
    message = world.picture_message()
    message.encoding = rng.choice(("h264", "", "x" * 5000, "yuv422", "bayer_rggb16"))
    world.publish_image(message)


def contradicting_image(world: World, rng: Random) -> None:
    """Send an image whose size and data contradict each other."""
    message = world.picture_message()
    message.height, message.width, message.step = rng.choice(
        ((0, 0, 0), (2**32 - 1, 2**32 - 1, 0), (240, 320, 0), (1, 2**31, 2**31), (241, 320, 960), (30000, 30000, 90000))
    )
    world.publish_image(message)


def image_of_another_size(world: World, rng: Random, size: tuple[int, int] | None = None) -> None:
    """Send an image of another size than camera_info says."""
    size = size or rng.choice(((480, 640), (24, 32), (1, 1), LARGEST))
    world.publish_image(rgb_message(np.zeros((*size, 3), np.uint8), make_header(world.next_stamp_ns(), world.frame)))


def image_without_stamp(world: World, rng: Random) -> None:
    """Send an image without a stamp."""
    message = world.picture_message()
    message.header.stamp.sec = message.header.stamp.nanosec = 0
    world.publish_image(message)


def image_an_hour_ahead(world: World, rng: Random) -> None:
    """Send an image stamped an hour ahead."""
    message = world.picture_message()
    message.header.stamp.sec += 3600
    world.publish_image(message)


def images_out_of_order(world: World, rng: Random) -> None:
    """Send an image that is older than the one before."""
    message = world.picture_message()
    message.header.stamp.nanosec = max(0, message.header.stamp.nanosec - 50_000_000)
    world.publish_image(message)


def burst_of_images(world: World, rng: Random) -> None:
    """Send forty images at once."""
    for _ in range(40):
        world.publish_image(world.picture_message())


def pause_of_images(world: World, rng: Random) -> None:
    """Send no images for a while."""
    world.images_paused_s = rng.uniform(0.5, 3.0)


def pause_of_poses(world: World, rng: Random) -> None:
    """Send no poses for a while."""
    world.poses_paused_s = rng.uniform(0.5, 3.0)


def time_jump(world: World, rng: Random) -> None:
    """Let time jump back by five seconds."""
    world.stamp_ns -= 5 * 10**9


def bad_camera_info(world: World, rng: Random) -> None:
    """Send intrinsics that cannot be."""
    message = world.info_message()
    kind = rng.randrange(6)
    if kind == 0:
        message.width = message.height = 0
    elif kind == 1:
        message.k = [float("nan")] * 9
        message.p = [float("nan")] * 12
    elif kind == 2:
        message.width = message.height = 2**32 - 1
    elif kind == 3:
        message.distortion_model, message.d = "moon", [1.0] * 1000
    elif kind == 4:
        message.roi.width, message.roi.height, message.binning_x = 2**32 - 1, 1, 2**32 - 1
    else:
        message.k = [0.0] * 9
        message.p = [0.0] * 12
    world.infos.publish(message)


def masks_come_and_go(world: World, rng: Random) -> None:
    """Send a mask that hides some of the image, or one that cannot be."""
    mask = np.full(rng.choice(((240, 320), (240, 320), (1, 1), LARGEST)), 255, np.uint8)
    mask[: rng.randrange(len(mask) + 1)] = 0
    message = mask_message(mask, make_header(world.stamp_ns, world.frame))
    if rng.random() < 0.3:
        message.encoding = rng.choice(("16UC1", "", "moon"))
    if rng.random() < 0.2:
        message.height, message.width = 2**32 - 1, 2**32 - 1
    world.masks.publish(message)


def bad_transform(world: World, rng: Random) -> None:
    """Send a transform that cannot be."""
    message = transform_message(world.stamp_ns, "odom", world.frame, np.eye(4))
    kind = rng.randrange(5)
    if kind == 0:
        message.transform.rotation.x = message.transform.rotation.w = 1e200
    elif kind == 1:
        message.transform.translation.x = float("nan")
    elif kind == 2:
        message.transform.rotation.w = 0.0
    elif kind == 3:
        message.child_frame_id = ""
    else:
        message.header.frame_id = message.child_frame_id
    world.tf.publish(TFMessage(transforms=[message]))


def transform_an_hour_ahead(world: World, rng: Random) -> None:
    """Send a transform stamped an hour ahead."""
    ahead = transform_message(world.stamp_ns + HOUR_NS, "odom", world.frame, np.eye(4))
    world.tf.publish(TFMessage(transforms=[ahead]))


def transform_an_hour_old(world: World, rng: Random) -> None:
    """Send a transform stamped an hour ago."""
    old = transform_message(max(0, world.stamp_ns - HOUR_NS), "odom", world.frame, np.eye(4))
    world.tf.publish(TFMessage(transforms=[old]))


def flood_of_frames(world: World, rng: Random) -> None:
    """Send hundreds of frames that nobody has heard of."""
    number = rng.randrange(10**9)
    links = [transform_message(world.stamp_ns, f"f{number + i}", f"f{number + i + 1}", np.eye(4)) for i in range(300)]
    world.tf.publish(TFMessage(transforms=links))


def loop_of_frames(world: World, rng: Random) -> None:
    """Send transforms that form a loop."""
    pairs = (("x", "y"), ("y", "z"), ("z", "x"))
    world.tf.publish(TFMessage(transforms=[transform_message(world.stamp_ns, a, b, np.eye(4)) for a, b in pairs]))


def text_that_is_none(world: World, rng: Random) -> None:
    """Send a message whose frame_id is no UTF-8."""
    message = world.info_message()
    message.header.frame_id = "abcdefgh"
    world.infos.publish(serialize_message(message).replace(b"abcdefgh", b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe"))


def reset(world: World, rng: Random) -> None:
    """Reset the node."""
    world.trigger("reset")


def save_cloud(world: World, rng: Random) -> None:
    """Have it write a cloud."""
    world.trigger("save_cloud")


def parameters_that_cannot_be(world: World, rng: Random) -> None:
    """Set parameters to what cannot be."""
    for name, value in (
        ("cloud_folder", "~nouser/x"),
        ("points_stride", 0),
        ("weights", "/etc/passwd"),
        ("points_max_depth_m", float("nan")),
        ("no_such_parameter", "x"),
        ("warn_latency_s", "soon"),
    ):
        world.set_parameter(name, value)


def parameters_that_can_be(world: World, rng: Random) -> None:
    """Change live parameters."""
    world.set_parameter("points_stride", rng.randrange(1, 5))
    world.set_parameter("depth_for", rng.choice(("keyframes", "every_image")))
    world.set_parameter("points_min_confidence", 0.0)
    world.set_parameter("confidence", rng.random() < 0.5)
    world.set_parameter("keyframe_pose_distance", rng.uniform(0.05, 0.2))


def off_and_on(world: World, rng: Random) -> None:
    """Deactivate the node and activate it again."""
    world.transition(Transition.TRANSITION_DEACTIVATE)
    world.transition(Transition.TRANSITION_ACTIVATE)


def transitions_that_cannot_be(world: World, rng: Random) -> None:
    """Ask for transitions that there are not."""
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP, 77):
        world.transition(transition)


def second_node_of_the_name(world: World, rng: Random) -> None:
    """Start a second node of its name for two seconds."""
    other = world.rclpy.create_node("depth_node")
    world.after(2.0, other.destroy_node)


def subscribers_come_and_go(world: World, rng: Random) -> None:
    """Change who listens to what."""
    world.change_subscribers(rng)


def node_stands_still(world: World, rng: Random) -> None:
    """Stop the process for a while, as a busy machine does."""
    world.process.send_signal(signal.SIGSTOP)
    time.sleep(rng.uniform(0.2, 1.5))
    world.process.send_signal(signal.SIGCONT)


FAULTS = (
    *(truncated_image, unknown_encoding, contradicting_image, image_of_another_size, image_without_stamp),
    *(image_an_hour_ahead, images_out_of_order, burst_of_images, pause_of_images, pause_of_poses, time_jump),
    *(bad_camera_info, bad_transform, transform_an_hour_ahead, transform_an_hour_old, flood_of_frames, loop_of_frames),
    *(text_that_is_none, reset, save_cloud, parameters_that_cannot_be, parameters_that_can_be, off_and_on),
    *(
        masks_come_and_go,
        transitions_that_cannot_be,
        second_node_of_the_name,
        subscribers_come_and_go,
        node_stands_still,
    ),
)
"""All faults."""
