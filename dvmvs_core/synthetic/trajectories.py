# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Smooth camera paths: carried by hand or by a robot, clear of a world's geometry, or hovering at arm's length.

Camera axes: x right, y down, z forward. World axes: z up. A walk is made by steering: noisy acceleration, pushed away
from whatever comes near, at 10 Hz; a cubic spline through it, plus the bob of a hand, gives poses at any rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

CLEARANCE_M = 0.33
"""No camera comes closer to a surface (measured to the enclosing boxes)."""
NEAR_CLEARANCE_M = 0.16
"""A camera at the end of an arm comes closer to things than one that somebody carries."""

LEG_S = 8.0
"""No walk goes on for longer in one direction: hardly any room has space for more, without a plan."""

MISALIGNMENTS_DEG = (0.0, 0.0, 0.1, 0.25, 0.5)
"""Angles to turn the poses of a clip by (`misaligned`), one for each clip; up to 0.8° were seen in recordings."""

_HOVER_DISTANCE_M = (0.3, 1.1)
_HOVER_PITCH = (-1.1, 0.2)
_STEP_S = 0.1
_COMFORT_M = 0.75
_WALK_S = (4.0, 9.0)
"""Shortest and longest walk between two pauses."""


@dataclass(frozen=True)
class Style:
    """How a camera is carried.

    Attributes:
        speed: Metres a second.
        turn: Deviation of the turning rate, radians a second.
        bearing: Direction of motion relative to the view, radians (0 forward, pi / 2 to the left).
        wander: Deviation of the bearing's drift, radians a square-root second.
        orbit_m: Distance of the point kept in view while moving sideways; infinite for none.
        pitch: Mean pitch, radians, negative looks down.
        height_m: Mean height above the floor.
        shake: Scale of the hand's bob, 0 for a robot.
    """

    speed: float
    turn: float
    bearing: float
    wander: float
    orbit_m: float
    pitch: float
    height_m: float
    shake: float


def sample_style(rng: np.random.Generator, brisk: bool = False) -> Style:
    """Draw how a camera is carried: scanning sideways, walking, backing off, orbiting, or on a robot."""
    kind = rng.choice(["scan", "walk", "orbit", "back"], p=[0.4, 0.25, 0.25, 0.1])
    side = rng.choice([-1.0, 1.0])
    bearing = {
        "scan": side * rng.uniform(0.9, 2.0),
        "walk": side * rng.uniform(0.0, 0.5),
        "orbit": side * np.pi / 2,
        "back": np.pi + rng.normal(0.0, 0.4),
    }[kind]
    robot = rng.random() < 0.2
    return Style(
        speed=rng.uniform(1.2, 1.5) if brisk else rng.uniform(0.35, 1.2),
        turn=rng.uniform(0.5, 0.8) if brisk else rng.uniform(0.2, 1.1),
        bearing=float(bearing),
        wander=rng.uniform(0.1, 0.6),
        orbit_m=rng.uniform(1.2, 4.0) if kind == "orbit" else np.inf,
        pitch=float(np.clip(rng.normal(-0.25, 0.22), -0.9, 0.35)),
        height_m=rng.uniform(0.4, 1.0) if robot else rng.uniform(1.15, 1.75),
        shake=0.1 if robot else rng.uniform(0.5, 1.5),
    )


def walk(
    rng: np.random.Generator,
    style: Style,
    starts: np.ndarray,
    duration_s: float,
    rate_hz: float,
    clearance: Callable[[np.ndarray], np.ndarray],
    pauses: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Walk one path from each start.

    Args:
        rng: Source of randomness.
        style: How the camera is carried.
        starts: (C, 3) metres, clear of geometry.
        duration_s: Length of the paths. After `LEG_S` they turn back the same way, and so on.
        rate_hz: Poses a second.
        clearance: Takes points (N, 3) to the distance from the nearest surface (N,), metres.
        pauses: Whether the walker stops now and then: to look around on the spot, or to stand still.

    Returns:
        (world_T_cam (C, T, 4, 4) float64, smallest clearance of each path (C,)).
    """
    count = len(starts)
    steps = int(np.ceil(min(duration_s, LEG_S) / _STEP_S)) + 2
    position = starts.copy()
    yaw = rng.uniform(-np.pi, np.pi, count)
    rate = rng.normal(0.0, style.turn, count)
    bearing = style.bearing + rng.normal(0.0, 0.2, count)
    pitch_offset = rng.normal(0.0, 0.08, count)
    velocity = style.speed * np.stack([np.cos(yaw + bearing), np.sin(yaw + bearing), 0.0 * yaw], axis=1)
    track = np.empty((steps, count, 5))  # x, y, z, yaw, pitch
    probe = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 0.1]])
    for step in range(steps):
        track[step] = np.column_stack([position, yaw, style.pitch + pitch_offset])
        room = clearance((position[:, None] + probe).reshape(-1, 3)).reshape(count, 4)
        slope = (room[:, 1:] - room[:, :1]) / 0.1
        away = slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 0.3)
        push = 6.0 * np.clip(_COMFORT_M - room[:, 0], 0.0, 0.6)[:, None] * away
        heading = yaw + bearing
        wanted = style.speed * np.stack([np.cos(heading), np.sin(heading), 0.0 * yaw], axis=1)
        velocity += _STEP_S * (2.0 * (wanted - velocity) + push * max(style.speed, 0.5))
        velocity[:, 2] += _STEP_S * (1.5 * (style.height_m - position[:, 2]) - velocity[:, 2])
        # A push turns the walker too, or it would lean on the wall for ever.
        sideways = np.cos(heading) * push[:, 1] - np.sin(heading) * push[:, 0]
        bearing += _STEP_S * 0.8 * sideways + np.sqrt(_STEP_S) * style.wander * rng.normal(0.0, 1.0, count)
        to_right = np.sin(yaw) * velocity[:, 0] - np.cos(yaw) * velocity[:, 1]
        rate += _STEP_S * -1.2 * rate + np.sqrt(_STEP_S) * style.turn * 1.5 * rng.normal(0.0, 1.0, count)
        yaw = yaw + _STEP_S * (rate + to_right / style.orbit_m)
        pitch_offset += -0.6 * _STEP_S * pitch_offset + np.sqrt(_STEP_S) * 0.12 * rng.normal(0.0, 1.0, count)
        position = position + _STEP_S * velocity
    times = np.arange(steps) * _STEP_S
    dense_times = np.arange(int(round(duration_s * rate_hz))) / rate_hz
    spline, moving, turning = CubicSpline(times, track), dense_times, dense_times
    if pauses:
        moving, turning = _paused(rng, dense_times)
    if duration_s > LEG_S:
        # Slows down towards both ends; in the middle time runs as fast as ever.
        moving, turning = (0.5 * LEG_S * (1.0 - np.cos(2.0 * time / LEG_S)) for time in (moving, turning))
    dense = np.concatenate([spline(moving)[..., :3], spline(turning)[..., 3:]], axis=-1).transpose(1, 0, 2)  # (C, T, 5)
    bob = _bob(rng, dense_times, count) * style.shake
    points = dense[..., :3] + bob[..., :3] * 0.012
    smallest = clearance(points.reshape(-1, 3)).reshape(count, -1).min(axis=1)
    poses = camera_poses(
        points,
        dense[..., 3] + 0.012 * bob[..., 3],
        dense[..., 4] + 0.012 * bob[..., 4],
        rng.normal(0.0, 0.04, (count, 1)) + 0.015 * bob[..., 5],
    )
    return poses, smallest


def _paused(rng: np.random.Generator, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """When on the track the body and when the view are at each time, seconds: both stop at times, or the body alone."""
    body, view = np.ones_like(times), np.ones_like(times)
    start = rng.uniform(*_WALK_S)
    while start < times[-1]:
        length = rng.uniform(0.7, 2.5)
        # Slows down and speeds up again within a third of a second.
        stopped = np.clip(np.minimum(times - start, start + length - times) / 0.3, 0.0, 1.0)
        pace = 1.0 - stopped * stopped * (3.0 - 2.0 * stopped)
        body *= pace
        if rng.random() < 0.5:
            view *= pace
        start += length + rng.uniform(*_WALK_S)
    steps = np.diff(times, prepend=0.0)
    return np.cumsum(body * steps), np.cumsum(view * steps)


def _bob(rng: np.random.Generator, times: np.ndarray, count: int) -> np.ndarray:
    """Six channels of a hand's unrest (C, T, 6): two sinusoids each, between a sway and a step's rhythm."""
    frequency = rng.uniform([0.3, 1.4], [0.9, 2.2], (count, 1, 6, 2))
    phase = rng.uniform(0.0, 2.0 * np.pi, (count, 1, 6, 2))
    return np.sin(2.0 * np.pi * frequency * times[None, :, None, None] + phase).sum(-1) * 0.7


def hover(rng: np.random.Generator, targets: np.ndarray, speed: float, duration_s: float, rate_hz: float) -> np.ndarray:
    """Move smoothly about targets at arm's length, looking at them: over a desk, before a shelf, above a bin.

    Args:
        rng: Source of randomness.
        targets: (C, 3) metres, one for each path.
        speed: Metres a second, about.
        duration_s: Length of the paths.
        rate_hz: Poses a second.

    Returns:
        world_T_cam (C, T, 4, 4) float64; nothing says yet that they are clear of the world.
    """
    count = len(targets)
    times = np.arange(int(round(duration_s * rate_hz))) / rate_hz
    yaw, pitch = rng.uniform(-np.pi, np.pi, (count, 1)), rng.uniform(*_HOVER_PITCH, (count, 1))
    forward = np.stack([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)], -1)  # (C, 1, 3)
    right = np.stack([np.sin(yaw), -np.cos(yaw), 0.0 * yaw], -1)
    up = np.cross(right, forward)
    way = _wander(rng, times, count, 3) * speed
    # An arm moves across its view more than along it.
    offset = way[..., :1] * right + 0.7 * way[..., 1:2] * up + 0.4 * way[..., 2:] * forward
    points = targets[:, None] - rng.uniform(*_HOVER_DISTANCE_M, (count, 1, 1)) * forward + offset
    # The gaze follows the target only in part: some cameras turn with it, others slide along.
    followed = rng.choice([0.0, 0.5, 1.0], (count, 1, 1))
    gaze = targets[:, None] + (1.0 - followed) * offset - points + 0.05 * speed * _wander(rng, times, count, 3)
    gaze = gaze / np.linalg.norm(gaze, axis=-1, keepdims=True)
    roll = rng.normal(0.0, 0.12, (count, 1)) + 0.02 * _wander(rng, times, count, 1)[..., 0]
    return camera_poses(points, np.arctan2(gaze[..., 1], gaze[..., 0]), np.arcsin(gaze[..., 2].clip(-1.0, 1.0)), roll)


def _wander(rng: np.random.Generator, times: np.ndarray, count: int, channels: int) -> np.ndarray:
    """Smooth curves (C, T, channels) through 0 whose slope is about 1 a second."""
    frequency = rng.uniform([0.15, 0.5], [0.4, 1.0], (count, 1, channels, 2))
    phase = rng.uniform(0.0, 2.0 * np.pi, (count, 1, channels, 2))
    wave = np.sin(2.0 * np.pi * frequency * times[None, :, None, None] + phase) / (2.0 * np.pi * frequency)
    wave = (wave * np.array([1.2, 0.5])).sum(-1)
    return wave - wave[:, :1]


def camera_poses(points: np.ndarray, yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Build world_T_cam.

    Args:
        points: (..., 3) metres.
        yaw: (...) radians from world x towards world y.
        pitch: (...) radians, positive looks up.
        roll: (...) radians about the view, clockwise turns the camera to its right.

    Returns:
        (..., 4, 4) float64.
    """
    yaw, pitch, roll = np.broadcast_arrays(yaw, pitch, roll)
    forward = np.stack([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)], axis=-1)
    level_right = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)], axis=-1)
    level_down = np.cross(forward, level_right)
    c, s = np.cos(roll)[..., None], np.sin(roll)[..., None]
    poses = np.zeros((*yaw.shape, 4, 4))
    poses[..., :3, 0] = c * level_right + s * level_down
    poses[..., :3, 1] = c * level_down - s * level_right
    poses[..., :3, 2] = forward
    poses[..., :3, 3] = points
    poses[..., 3, 3] = 1.0
    return poses


def pose_distances(world_T_ref: np.ndarray, world_T_meas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Combined and translational pose distance, `geometry.pose_distance` for whole arrays.

    Args:
        world_T_ref: (..., 4, 4).
        world_T_meas: (..., 4, 4).

    Returns:
        (combined, translation in metres), each (...).
    """
    translation = np.linalg.norm(world_T_meas[..., :3, 3] - world_T_ref[..., :3, 3], axis=-1)
    trace = (world_T_ref[..., :3, :3] * world_T_meas[..., :3, :3]).sum((-1, -2))
    rotation = np.sqrt(2.0 * (1.0 - np.minimum(trace, 3.0) / 3.0))
    return np.hypot(translation, rotation), translation


def camera_velocity(world_T_cam: np.ndarray, rate_hz: float) -> np.ndarray:
    """Velocity along a path, by central differences.

    Args:
        world_T_cam: (T, 4, 4) evenly spaced in time.
        rate_hz: Poses a second.

    Returns:
        (T, 6) float64 in each camera's own axes: metres a second, then radians a second; zero for a single pose.
    """
    index = np.arange(len(world_T_cam))
    before, after = np.maximum(index - 1, 0), np.minimum(index + 1, len(world_T_cam) - 1)
    seconds = np.maximum(after - before, 1)[:, None] / rate_hz
    cam_R_world = world_T_cam[:, :3, :3].transpose(0, 2, 1)
    moved = cam_R_world @ (world_T_cam[after, :3, 3] - world_T_cam[before, :3, 3])[..., None]
    turned = Rotation.from_matrix(cam_R_world[before] @ world_T_cam[after, :3, :3]).as_rotvec()
    return np.concatenate([moved[..., 0], turned], axis=1) / seconds


def choose_keyframes(
    world_T_cam: np.ndarray, length: int, low: float = 0.125, high: float = 0.325, min_translation_m: float = 0.0625
) -> np.ndarray | None:
    """Pick consecutive keyframes as the published training rule does: greedily, each the first in range of the last.

    Args:
        world_T_cam: (T, 4, 4) a path.
        length: Keyframes wanted.
        low: Smallest combined pose distance.
        high: Largest combined pose distance.
        min_translation_m: Smallest translation.

    Returns:
        (length,) indices, or None where the path is too short.
    """
    chosen = [0]
    while len(chosen) < length:
        rest = world_T_cam[chosen[-1] + 1 :]
        combined, translation = pose_distances(world_T_cam[chosen[-1]], rest)
        valid = np.flatnonzero((combined >= low) & (combined <= high) & (translation >= min_translation_m))
        if not len(valid):
            return None
        chosen.append(chosen[-1] + 1 + int(valid[0]))
    return np.array(chosen)


def drift(rng: np.random.Generator, world_T_cam: np.ndarray, scale: float) -> np.ndarray:
    """Add an odometry's random walk to poses.

    Args:
        rng: Source of randomness.
        world_T_cam: (T, 4, 4).
        scale: 1 stands for deviations of 4 mm and 0.1 degrees from one pose to the next.

    Returns:
        (T, 4, 4) float64; the first pose is unchanged.
    """
    steps = (len(world_T_cam) - 1, 3)
    offsets = np.cumsum(rng.normal(0.0, 0.004 / np.sqrt(3.0), steps), axis=0) * scale
    angles = np.cumsum(rng.normal(0.0, np.deg2rad(0.1) / np.sqrt(3.0), steps), axis=0) * scale
    noisy = world_T_cam.copy()
    noisy[1:, :3, :3] = Rotation.from_rotvec(angles).as_matrix() @ world_T_cam[1:, :3, :3]
    noisy[1:, :3, 3] += offsets
    return noisy


def misaligned(rng: np.random.Generator, world_T_cam: np.ndarray, angle_deg: float) -> np.ndarray:
    """Turn every camera about an axis of its own, as bad clocks and calibration do and odometry does not.

    Args:
        rng: Source of randomness.
        world_T_cam: (T, 4, 4).
        angle_deg: By how much.

    Returns:
        (T, 4, 4) float64; positions are unchanged.
    """
    axes = rng.normal(size=(len(world_T_cam), 3))
    axes *= np.deg2rad(angle_deg) / np.linalg.norm(axes, axis=1, keepdims=True)
    turned = world_T_cam.astype(np.float64)
    turned[:, :3, :3] @= Rotation.from_rotvec(axes).as_matrix()
    return turned
