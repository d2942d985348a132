# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.


"""Recordings of a small world of coloured balls, in the exact format of each tool that can be imported."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import lzfse
import numpy as np
from scipy.spatial.transform import Rotation
from small_inputs import write

HEIGHT, WIDTH = 240, 320
FX, FY, CX, CY = 260.0, 255.0, 163.25, 118.5
K = np.array(((FX, 0, CX), (0, FY, CY), (0, 0, 1.0)))
FRAMES = 4
BACKGROUND_M = 6.0
RADIUS = 5
POINTS = np.array(((-0.4, -0.25, 2.0), (0.5, 0.15, 2.6), (0.0, 0.25, 2.2), (0.45, -0.3, 3.0)))
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 80, 255), (255, 255, 0))
START_NS = 1_403_636_579_763_555_584
STEP_NS = 50_000_000


def pose(i: float) -> np.ndarray:
    """world_T_cam: the camera moves to the right and up, and turns about all axes."""
    world_T_cam = np.eye(4)
    world_T_cam[:3, :3] = Rotation.from_euler("xyz", (i, -1.5 * i, 2 * i), degrees=True).as_matrix()
    world_T_cam[:3, 3] = (0.08 * i, -0.05 * i, 0.03 * i)
    return world_T_cam


def in_camera(i: int) -> np.ndarray:
    cam_T_world = np.linalg.inv(pose(i))
    return POINTS @ cam_T_world[:3, :3].T + cam_T_world[:3, 3]


def draw(i: int, coefficients=(), fisheye: bool = False, matrix=K, size=(HEIGHT, WIDTH)) -> np.ndarray:
    """The image (H, W, 3) RGB of frame i by a camera with a lens."""
    points = in_camera(i)
    bend = cv2.fisheye.projectPoints if fisheye else cv2.projectPoints
    arguments = (points[:, None], np.zeros(3), np.zeros(3), matrix, np.array(coefficients or (0.0,) * 4))
    pixels = bend(*arguments)[0].reshape(-1, 2)
    image = np.full((*size, 3), 30, np.uint8)
    for (x, y), colour in zip(pixels, COLOURS, strict=True):
        cv2.circle(image, (round(x * 16), round(y * 16)), RADIUS * 16, colour, -1, cv2.LINE_AA, 4)
    return image


def draw_depth(i: int, size=(HEIGHT, WIDTH)) -> np.ndarray:
    """The depth (H, W) metres of frame i by the camera without a lens, in as many pixels as asked for."""
    scale = size[1] / WIDTH
    depth = np.full(size, BACKGROUND_M)
    for x, y, z in in_camera(i):
        at = (FX * x / z + CX + 0.5) * scale - 0.5, (FY * y / z + CY + 0.5) * scale - 0.5
        cv2.circle(depth, (round(at[0] * 16), round(at[1] * 16)), round(RADIUS * scale * 16), z, -1, cv2.LINE_8, 4)
    return depth


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 20, (WIDTH, HEIGHT))
    for i in range(FRAMES):
        writer.write(draw(i)[..., ::-1])
    writer.release()


def quaternion(matrix: np.ndarray) -> list[float]:
    """x y z w."""
    return Rotation.from_matrix(matrix[:3, :3]).as_quat().tolist()


def words(*values: float) -> str:
    return " ".join(f"{value:.12g}" for value in values)


def tum_lines(path: Path, first_s: float, step_s: float, before: int = 1) -> None:
    """A trajectory with poses at every half step, and some before and after."""
    lines = ["# timestamp tx ty tz qx qy qz qw"]
    for half in range(-2 * before, 2 * (FRAMES + before)):
        at = pose(half / 2)
        lines.append(f"{first_s + half / 2 * step_s:.9f} {words(*at[:3, 3], *quaternion(at))}")
    write_text(path, "\n".join(lines) + "\n")


def trajectory(images: Path, *options) -> list:
    """Arguments for images with a trajectory next to them."""
    poses = images.with_name("poses.txt")
    return ["trajectory", images, "--poses", poses, "--intrinsics", FX, FY, CX, CY, *options]


def trajectory_folder(folder: Path) -> list:
    for i in range(FRAMES):
        write(folder / "walk" / f"{100 + i * 0.05:.6f}.png", draw(i, (-0.2, 0.05, 0.001, -0.002, 0.01)))
    tum_lines(folder / "poses.txt", 99.96, 0.05)
    return trajectory(folder / "walk", "--distortion", -0.2, 0.05, 0.001, -0.002, 0.01, "--time-offset-s", -0.04)


def trajectory_nanoseconds(folder: Path) -> list:
    for i in range(FRAMES):
        write(folder / "walk" / f"{START_NS + i * STEP_NS}.png", draw(i, (0.1, -0.02, 0.003, 0.001), fisheye=True))
    tum_lines(folder / "poses.txt", START_NS / 1e9, 0.05)
    return trajectory(folder / "walk", "--lens", "equidistant", "--distortion", 0.1, -0.02, 0.003, 0.001)


def trajectory_video(folder: Path) -> list:
    write_video(folder / "walk.mp4")
    tum_lines(folder / "poses.txt", 1000.0, 0.05)
    return trajectory(folder / "walk.mp4", "--time-offset-s", 1000.0)


def trajectory_orb_slam(folder: Path) -> list:
    """ORB-SLAM3 writes nanoseconds with six digits behind the point, and no comment, next to images named by them."""
    arguments = trajectory_nanoseconds(folder)
    lines = (line.partition(" ") for line in (folder / "poses.txt").read_text().splitlines()[1:])
    text = "".join(f"{time.replace('.', '')}.000000 {pose}\n" for time, _, pose in lines)
    write_text(folder / "poses.txt", text)
    return arguments


BODY_T_CAMERA = np.eye(4)
BODY_T_CAMERA[:3, :3] = Rotation.from_euler("xyz", (80, 10, 95), degrees=True).as_matrix()
BODY_T_CAMERA[:3, 3] = (-0.02, -0.06, 0.01)


def euroc_poses(path: Path, heading: str, body_T_marker: np.ndarray, more=(), end: str = "\n") -> None:
    lines = [heading]
    for half in range(-2, 2 * FRAMES + 2):
        marker = pose(half / 2) @ np.linalg.inv(BODY_T_CAMERA) @ body_T_marker
        x, y, z, w = quaternion(marker)
        numbers = (*marker[:3, 3], w, x, y, z, *more)
        lines.append(f"{START_NS + half * STEP_NS // 2},{','.join(f'{value:.12f}' for value in numbers)}")
    write_text(path, end.join(lines) + end)


def yaml_matrix(matrix: np.ndarray) -> str:
    return f"T_BS:\n  cols: 4\n  rows: 4\n  data: [{', '.join(f'{value:.12f}' for value in matrix.ravel())}]\n"


def euroc(folder: Path) -> list:
    images = ["#timestamp [ns],filename"]
    for i in range(FRAMES):
        stamp = START_NS + i * STEP_NS
        write(folder / f"V1/mav0/cam0/data/{stamp}.png", draw(i, (-0.28, 0.07, 0.0002, 0.00002)))
        images.append(f"{stamp},{stamp}.png")
    write_text(folder / "V1/mav0/cam0/data.csv", "\n".join(images))
    poses, heading = "V1/mav0/state_groundtruth_estimate0/data.csv", "#timestamp, p_RS_R_x [m], p_RS_R_y [m], ..."
    euroc_poses(folder / poses, heading, np.eye(4), [0.0] * 9)
    write_text(
        folder / "V1/mav0/cam0/sensor.yaml",
        f"# General sensor definitions.\nsensor_type: camera\n{yaml_matrix(BODY_T_CAMERA)}"
        f"rate_hz: 20\nresolution: [{WIDTH}, {HEIGHT}]\ncamera_model: pinhole\nintrinsics: [{FX}, {FY}, {CX}, {CY}]"
        "\ndistortion_model: radial-tangential\ndistortion_coefficients: [-0.28, 0.07, 0.0002, 0.00002]\n",
    )
    return ["euroc", folder]


def euroc_vicon(folder: Path) -> list:
    """The poses are of markers that sit elsewhere on the body, with times in each row and no more columns."""
    body_T_marker = np.eye(4)
    body_T_marker[:3, :3] = Rotation.from_euler("xyz", (-20, 70, 5), degrees=True).as_matrix()
    body_T_marker[:3, 3] = (0.07, -0.013, -0.12)
    euroc(folder)
    root = folder / "V1/mav0"
    (root / "state_groundtruth_estimate0/data.csv").unlink()
    heading = "#timestamp [ns], p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z []"
    euroc_poses(root / "vicon0/data.csv", heading, body_T_marker, end="\r\n")
    write_text(root / "vicon0/sensor.yaml", f"sensor_type: pose\n{yaml_matrix(body_T_marker)}")
    return ["euroc", folder]


def tum_vi(folder: Path) -> list:
    """16-bit images, an equidistant lens, Kalibr's calibration (camera from body), poses of motion capture."""
    euroc(folder)
    root = folder / "V1/mav0"
    (root / "cam0/sensor.yaml").unlink()
    (root / "state_groundtruth_estimate0").rename(root / "mocap0")
    coefficients = (0.0034, 0.0007, -0.002, 0.0002)
    for i in range(FRAMES):
        image = draw(i, coefficients, fisheye=True)
        write(root / f"cam0/data/{START_NS + i * STEP_NS}.png", image.astype(np.uint16) * 256)
    rows = np.linalg.inv(BODY_T_CAMERA).tolist()
    write_text(
        folder / "V1/dso/camchain.yaml",
        "cam0:\n  T_cam_imu:\n" + "".join(f"  - {row}\n" for row in rows) + "  camera_model: pinhole\n"
        f"  distortion_coeffs: {list(coefficients)}\n  distortion_model: equidistant\n"
        f"  intrinsics: [{FX}, {FY}, {CX}, {CY}]\n  resolution: [{WIDTH}, {HEIGHT}]\n",
    )
    return ["euroc", folder / "V1"]


OPENGL = np.diag((1.0, -1.0, -1.0, 1.0))


def from_corner(fx=FX, fy=FY, cx=CX, cy=CY) -> dict:
    """Intrinsics of transforms.json, which counts from the corner of the first pixel."""
    return {"fl_x": fx, "fl_y": fy, "cx": cx + 0.5, "cy": cy + 0.5}


def edit_json(path: Path, change) -> None:
    """Change what a JSON file holds."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def transforms(folder: Path) -> list:
    """Depth images, a lens, and frames in no order."""
    frames = []
    for i in (2, 0, 3, 1):
        write(folder / f"room/images/frame_{i + 8}.png", draw(i, (-0.1, 0.02, 0.001, 0.0)))
        frames.append({"file_path": f"images/frame_{i + 8}.png", "transform_matrix": (pose(i) @ OPENGL).tolist()})
    content = {"camera_model": "OPENCV", "w": WIDTH, "h": HEIGHT, **from_corner(), "frames": frames}
    content |= {"k1": -0.1, "k2": 0.02, "p1": 0.001, "p2": 0.0}
    write_text(folder / "room/transforms.json", json.dumps(content))
    return ["transforms", folder]


def transforms_each(folder: Path) -> list:
    """Intrinsics of each frame, depth in units of its own, poses in half metres."""
    frames = []
    for i in range(FRAMES):
        zoom = 1 + 0.05 * i
        matrix = np.array(((FX * zoom, 0, CX + i), (0, FY * zoom, CY), (0, 0, 1.0)))
        write(folder / f"images/{i}.png", draw(i, matrix=matrix))
        if i < 2:
            write(folder / f"depth/{i}.png", (draw_depth(i) * 4000).astype(np.uint16))
        at = pose(i) @ OPENGL
        at[:3, 3] *= 2
        own = from_corner(FX * zoom, FY * zoom, CX + i)
        entry = {"file_path": f"images/{i}.png", "transform_matrix": at.tolist(), **own}
        frames.append(entry | ({"depth_file_path": f"depth/{i}.png"} if i < 2 else {}))
    write_text(folder / "transforms.json", json.dumps({"frames": frames, "depth_unit_scale_factor": 1 / 4000}))
    return ["transforms", folder, "--scale", 0.5]


def transforms_radial(folder: Path) -> list:
    """nerfstudio takes COLMAP's radial models over by their names."""
    arguments = transforms(folder)
    for i in range(FRAMES):
        write(folder / f"room/images/frame_{i + 8}.png", draw(i, (-0.1, 0.02, 0.0, 0.0)))
    edit_json(folder / "room/transforms.json", lambda content: content.update(camera_model="RADIAL", p1=0.0, k4=0.0))
    return arguments


def world_to_camera(i: int, scale: float) -> tuple[list[float], list[float]]:
    cam_T_world = np.linalg.inv(pose(i))
    x, y, z, w = quaternion(cam_T_world)
    return [w, x, y, z], (cam_T_world[:3, 3] / scale).tolist()


def colmap_text(folder: Path) -> list:
    lines = ["# Image list with two lines of data per image:"]
    for i in range(FRAMES):
        write(folder / f"images/{i + 8}.jpg", draw(i, (0.05, -0.01, 0.0005, 0.001)))
        rotation, translation = world_to_camera(i, 3.0)
        lines += [f"{i + 1} {words(*rotation, *translation)} 1 {i + 8}.jpg", "" if i == 1 else "10.5 20.5 -1 3 4 17"]
    write_text(folder / "sparse/0/images.txt", "\n".join(lines) + "\n")
    camera = f"1 OPENCV {WIDTH} {HEIGHT} {words(FX, FY, CX + 0.5, CY + 0.5, 0.05, -0.01, 0.0005, 0.001)}"
    write_text(folder / "sparse/0/cameras.txt", f"# Camera list\n{camera}\n")
    return ["colmap", folder, "--scale", 3.0]


def colmap_binary(folder: Path) -> list:
    data = struct.pack("<Q", FRAMES)
    for i in range(FRAMES):
        write(folder / f"photos/{i + 8}.png", draw(i, (-0.06, 0.0, 0.0, 0.0), matrix=np.array(SQUARE)))
        rotation, translation = world_to_camera(i, 3.0)
        data += struct.pack("<I7dI", i + 1, *rotation, *translation, 7) + f"{i + 8}.png".encode() + b"\0"
        data += struct.pack("<Q", 2) + struct.pack("<ddqddq", 1.5, 2.5, -1, 3.5, 4.5, 9)
    (folder / "sparse").mkdir()
    (folder / "sparse/images.bin").write_bytes(data)
    parameters = (FX, CX + 0.5, CY + 0.5, -0.06)
    camera = struct.pack("<QIiQQ4d", 1, 7, 2, WIDTH, HEIGHT, *parameters)
    (folder / "sparse/cameras.bin").write_bytes(camera)
    return ["colmap", folder, "--scale", 3.0, "--images", folder / "photos"]


SQUARE = ((FX, 0, CX), (0, FX, CY), (0, 0, 1.0))


def depth_of_a_phone(i: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth (metres) at half the size, wrong in its first rows, and how sure the phone is of it."""
    depth = draw_depth(i, (HEIGHT // 2, WIDTH // 2))
    depth[:10], sure = 1.0, np.full(depth.shape, 2, np.uint8)
    sure[:10] = 0
    return depth, sure


def stray(folder: Path) -> list:
    write_video(folder / "rgb.mp4")
    write_text(folder / "camera_matrix.csv", f"{FX}, 0.0, {CX}\n0.0, {FY}, {CY}\n0.0, 0.0, 1.0\n")
    lines = ["timestamp, frame, x, y, z, qx, qy, qz, qw"]
    for i in range(FRAMES):
        at = pose(i)
        numbers = (*at[:3, 3], *quaternion(at))
        lines.append(f"{5000 + i * 0.05:.6f}, {i:06d}, " + ", ".join(f"{value:.12f}" for value in numbers))
        depth, sure = depth_of_a_phone(i)
        write(folder / f"depth/{i:06d}.png", np.rint(depth * 1000).astype(np.uint16))
        write(folder / f"confidence/{i:06d}.png", sure)
    write_text(folder / "odometry.csv", "\n".join(lines) + "\n")
    return ["stray", folder]


def stray_arrays(folder: Path) -> list:
    """The first versions of the app wrote depth as arrays of numpy."""
    arguments = stray(folder)
    for path in (folder / "depth").iterdir():
        np.save(path.with_suffix(".npy"), cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        path.unlink()
    return arguments


def record3d(folder: Path) -> list:
    metadata = {"w": WIDTH, "h": HEIGHT, "dw": WIDTH // 2, "dh": HEIGHT // 2, "fps": 20}
    metadata["K"] = np.array(K).T.ravel().tolist()
    metadata["poses"] = [[*quaternion(pose(i) @ OPENGL), *pose(i)[:3, 3]] for i in range(FRAMES)]
    metadata["frameTimestamps"] = [900 + i * 0.05 for i in range(FRAMES)]
    with zipfile.ZipFile(folder / "room.r3d", "w") as archive:
        archive.writestr("metadata", json.dumps(metadata))
        for i in range(FRAMES):
            archive.writestr(f"rgbd/{i}.jpg", cv2.imencode(".jpg", draw(i)[..., ::-1])[1].tobytes())
            depth, sure = depth_of_a_phone(i)
            archive.writestr(f"rgbd/{i}.depth", lzfse.compress(depth.astype("<f4").tobytes()))
            archive.writestr(f"rgbd/{i}.conf", lzfse.compress(sure.tobytes()))
    return ["record3d", folder / "room.r3d"]


def edit_metadata(path: Path, change) -> None:
    """Change the metadata of a recording of Record3D."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    content = json.loads(entries["metadata"])
    change(content)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**entries, "metadata": json.dumps(content)}.items():
            archive.writestr(name, data)


def record3d_larger(folder: Path) -> list:
    """K is of w × h, and images may be larger."""
    arguments = record3d(folder)
    half = np.array(K) * ((0.5,), (0.5,), (1.0,))
    half[:2, 2] -= 0.25
    size = {"w": WIDTH // 2, "h": HEIGHT // 2}
    edit_metadata(folder / "room.r3d", lambda metadata: metadata.update(size, K=half.T.ravel().tolist()))
    return arguments


def open3d(folder: Path) -> list:
    lines = []
    for i in range(FRAMES):
        write(folder / f"color/{i + 8}.jpg", draw(i))
        write(folder / f"depth/{i + 8}.png", np.rint(draw_depth(i) * 1000).astype(np.uint16))
        lines += [f"{i} {i} {i + 1}", *(words(*row) for row in pose(i))]
    write_text(folder / "scene/trajectory.log", "\n".join(lines) + "\n")
    matrix = {"width": WIDTH, "height": HEIGHT, "intrinsic_matrix": np.array(K).T.ravel().tolist()}
    write_text(folder / "camera_intrinsic.json", json.dumps(matrix))
    return ["open3d", folder]


def open3d_from_one(folder: Path) -> list:
    """Blocks may be numbered from 1."""
    arguments = open3d(folder)
    lines = (folder / "scene/trajectory.log").read_text().splitlines()
    lines[::5] = [f"{i + 1} {i + 1} {i + 2}" for i in range(FRAMES)]
    write_text(folder / "scene/trajectory.log", "\n".join(lines) + "\n")
    return arguments


def kitti(folder: Path) -> list:
    camera_T_first = np.eye(4)
    camera_T_first[:3, 3] = (0.06, -0.01, 0.003)
    lines = []
    for i in range(FRAMES):
        write(folder / f"sequences/00/image_2/{i:06d}.png", draw(i))
        lines.append(words(*(pose(i) @ camera_T_first)[:3].ravel()))
    write_text(folder / "poses/00.txt", "\n".join(lines) + "\n")
    other = f"P0: {words(*np.hstack((K, np.zeros((3, 1)))).ravel())}\n"
    write_text(folder / "sequences/00/calib.txt", f"{other}P2: {words(*(K @ camera_T_first[:3]).ravel())}\n")
    write_text(folder / "sequences/00/times.txt", "".join(f"{i * 0.05:e}\n" for i in range(FRAMES)))
    return ["kitti", folder]


def seven_scenes(folder: Path) -> list:
    """Colour as jpg; the depth camera is the colour camera here, so that its own calibration is the identity."""
    for i in range(FRAMES):
        stem = folder / f"room/seq-01/frame-{i:06d}"
        big = np.array(((525.0, 0, 320), (0, 525, 240), (0, 0, 1)))
        write(stem.with_name(f"{stem.name}.color.jpg"), draw(i, matrix=big, size=(480, 640)))
        write_text(stem.with_name(f"{stem.name}.pose.txt"), "\n".join(words(*row) for row in pose(i)))
    write_text(folder / "same.txt", "\n".join(words(*row) for row in np.eye(4)))
    return ["7scenes", folder / "room", "--colour-from-depth", folder / "same.txt"]


# Each with how exactly its images and its depth are drawn.
WRITERS = {
    writer.__name__: SimpleNamespace(write=writer, pixels=pixels, depth=depth)
    for writer, pixels, depth in (
        (trajectory_folder, 0.3, False),
        (trajectory_nanoseconds, 0.3, False),
        (trajectory_orb_slam, 0.3, False),
        (trajectory_video, 0.5, False),
        (euroc, 0.3, False),
        (euroc_vicon, 0.3, False),
        (tum_vi, 0.3, False),
        (transforms, 0.3, False),
        (transforms_radial, 0.3, False),
        (transforms_each, 0.3, True),
        (colmap_text, 0.3, False),
        (colmap_binary, 0.3, False),
        (stray, 0.5, True),
        (stray_arrays, 0.5, True),
        (record3d, 0.3, True),
        (record3d_larger, 0.3, True),
        (open3d, 0.3, True),
        (open3d_from_one, 0.3, True),
        (kitti, 0.3, False),
        (seven_scenes, 0.3, False),
    )
}
