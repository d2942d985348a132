# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What runs on an Arm processor with 64 bits: all that the package needs, and every extra but ROS 2 from wheels."""

from __future__ import annotations

from importlib.metadata import requires
from pathlib import Path

import pytest

packaging = pytest.importorskip("packaging.requirements", reason="packaging is not installed")

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"

WHEELS = {
    "torch==2.13.0": "manylinux_2_28_aarch64",
    "numpy==2.4.6": "manylinux_2_28_aarch64",
    "numpy==2.2.6": "manylinux_2_17_aarch64",
    "opencv-python==4.14.0.94": "manylinux_2_28_aarch64",
    "safetensors==0.8.0": "manylinux_2_17_aarch64",
    "kornia==0.9.0": "any",
    "kornia==0.8.2": "any",
    "numba==0.68.1": "manylinux_2_28_aarch64",
    "openvino==2026.4.0": "manylinux_2_35_aarch64",
    "rosbags==0.11.9": "any",
    "tyro==1.0.17": "any",
    "rich==15.0.0": "any",
    "scipy==1.17.1": "manylinux_2_28_aarch64",
    "scipy==1.15.3": "manylinux_2_17_aarch64",
    "lz4==4.4.5": "manylinux_2_28_aarch64",
    "lzfse==0.4.2.post1": "manylinux_2_28_aarch64",
    "backports.zstd==1.8.0": "manylinux_2_28_aarch64",
    "tensorboard==2.21.0": "any",
    "onnx==1.23.2": "manylinux_2_28_aarch64",
    "onnxruntime==1.32.0": "manylinux_2_28_aarch64",
    "onnxruntime==1.23.2": "manylinux_2_28_aarch64",
    "triton==3.9.0": "manylinux_2_28_aarch64",
    "triton==3.8.0": "manylinux_2_28_aarch64",
    "rerun-sdk==0.41.0": "manylinux_2_28_aarch64",
    "mkdocs-material==9.8.2": "any",
    "mkdocs-material==9.7.7": "any",
    "mkdocstrings==1.0.8": "any",
    "mkdocstrings==1.0.6": "any",
    "nbclient==0.11.0": "any",
    "ipykernel==7.4.0": "any",
    "setuptools==79.0.1": "any",
    "pytest==9.2.0": "any",
    "pytest-timeout==2.4.0": "any",
    "pytest-xdist==3.8.0": "any",
    "hypothesis==6.170.15": "manylinux_2_17_aarch64",
    "hypothesis==6.168.5": "manylinux_2_17_aarch64",
    "ruff==0.17.6": "manylinux_2_17_aarch64",
    "colcon-core==0.21.3": "any",
    "colcon-package-information==0.4.0": "any",
    "colcon-ros==0.5.0": "any",
}
"""The newest platform that the wheels of a constraint are built for, as told for each NAME by

pip install --dry-run --ignore-installed --no-deps --only-binary=:all: --target unused --report - \\
    --python-version 3.12 --platform manylinux_2_35_aarch64 (and the older ones) NAME==VERSION

of Python 3.12, or 3.10 where constraints.txt has another version for it. A version that changes there is asked again.
"""

WITHOUT = {
    "open3d-cpu==0.20.0",  # open3d stands in for it: wheels of 0.20.0 for manylinux_2_35_aarch64
    # Metapackages for any platform, whose parts have wheels for x86_64 only; a distribution's ROS 2 takes their place.
    "ros-kilted-rclpy==9.1.2",
    "ros-kilted-common-interfaces==5.5.1",
    "ros-kilted-rmw-fastrtps-cpp==9.3.3",
    "ros-wheels-bootstrapper==0.1.2",
}

OTHER_THAN_CONSTRAINED = {"open3d"}
"""What an Arm processor gets in place of a constrained package."""


def pinned():
    """Each line of constraints.txt without its marker."""
    lines = (line.partition("#")[0].strip() for line in CONSTRAINTS.read_text().splitlines())
    return [str(packaging.Requirement(line.partition(";")[0])) for line in lines if line]


def needed_on_arm(extra):
    """Names that the package needs there with an extra, "" for none, on any Python that it supports."""
    names = set()
    for python in ("3.10", "3.11", "3.12", "3.13"):
        arm = {"sys_platform": "linux", "platform_machine": "aarch64", "python_version": python, "extra": extra}
        for line in requires("dvmvs_ros"):
            requirement = packaging.Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(arm):
                names.add(requirement.name)
    return names


def test_the_table_is_of_what_constraints_pin():
    assert set(WHEELS) | WITHOUT == set(pinned())


@pytest.mark.parametrize("extra", ["", "reconstruct", "train", "view", "onnx", "triton", "test"])
def test_what_is_needed_has_a_wheel(extra):
    available = {name.partition("==")[0] for name in WHEELS} | OTHER_THAN_CONSTRAINED
    needed = needed_on_arm(extra)
    assert "torch" in needed and needed <= available, sorted(needed - available)


def test_ros_2_from_wheels_is_optional():
    assert needed_on_arm("ros") - needed_on_arm("") == {
        name.partition("==")[0] for name in WITHOUT if name.startswith("ros-kilted")
    }


def test_ubuntu_of_jetpack_6_and_later_is_new_enough():
    """Ubuntu 22.04, which JetPack 6 brings, has glibc 2.35."""
    assert all(tag == "any" or int(tag.split("_")[2]) <= 35 for tag in WHEELS.values())
