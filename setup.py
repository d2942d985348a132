# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Metadata, entry points and installed files of dvmvs_ros, for pip and for colcon alike.

All of it stands here and none in pyproject.toml: a `[project]` table there would make setuptools
ignore these entry points, and colcon reads setup.py.
"""

from __future__ import annotations

from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

NAME = "dvmvs_ros"

REQUIRES = [
    "numpy>=1.26",
    "opencv-python>=4.8,<5",  # cv_bridge breaks with OpenCV 5
    "torch>=2.4",
    "safetensors>=0.4",
    "kornia>=0.8",
    # Without these two depth takes three to four times as long on a CPU: OpenVINO runs the network's layers there (and
    # on Intel's GPUs and NPUs), numba compiles the loops between them.
    "openvino>=2026.0",
    "numba>=0.59",
    "rosbags>=0.11",
    "tyro>=0.9",
    "rich>=13",
    "scipy>=1.11",
    # rosbags needs these two as well; chunks of a broken bag are read with them directly.
    "lz4>=4",
    "backports.zstd>=1 ; python_version < '3.14'",
]

# Fusing depth into meshes and casting rays at them. Of the two packages with the module open3d, the one without CUDA
# has a quarter of the size (105 MB to fetch); it exists for Linux on x86_64 only.
RECONSTRUCT = [
    "open3d-cpu>=0.19 ; sys_platform == 'linux' and platform_machine == 'x86_64'",
    "open3d>=0.18 ; sys_platform != 'linux' or platform_machine != 'x86_64'",
]

# `dvmvs train` shows its curves in it, where it is installed.
TRAIN = ["tensorboard>=2.15"]

# `make demo VIEW=rerun`. It needs numpy 2; Foxglove needs nothing.
VIEW = ["rerun-sdk>=0.24"]

# `dvmvs weights export --format onnx` needs the first and torch 2.5; the test of what it writes the second.
ONNX = ["onnx>=1.16", "onnxruntime>=1.18"]

# `make docs`, and scripts/run_notebook.py.
DOCS = ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.27", "nbclient>=0.10", "ipykernel>=6"]

# The GPU's fused plane sweep; with torch's CUDA build it comes along. On a CPU its tests need it (1 GB).
TRITON = ["triton>=3.2 ; sys_platform == 'linux'"]

# Depth of Record3D's recordings is compressed with it.
RECORD3D = ["lzfse>=0.4"]

EXTRAS = {
    # ROS 2 itself, for a machine without a ROS installation. tf2_msgs has no wheel: see pip_ros/.
    "ros": [
        "ros-kilted-rclpy",
        "ros-kilted-common-interfaces",
        "ros-kilted-rmw-fastrtps-cpp",
    ],
    "reconstruct": RECONSTRUCT,
    "train": TRAIN,
    "view": VIEW,
    "onnx": ONNX,
    "docs": DOCS,
    "triton": TRITON,
    "record3d": RECORD3D,
    "test": [
        *RECONSTRUCT,
        *ONNX,
        *RECORD3D,
        "pytest>=8",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "hypothesis>=6.100",
        "ruff>=0.9",
        "colcon-core",
        "colcon-package-information",  # `colcon list`
        "colcon-ros",
        "setuptools>=68,<80",  # the newest that colcon accepts
    ],
}

CONFIGURATION = ("config", "config/cameras", "config/sros2")

setup(
    name=NAME,
    version="0.1.0",
    description="Dense metric depth from one moving camera, for ROS 2 (DeepVideoMVS)",
    long_description=Path("README.md").read_text() if Path("README.md").is_file() else "",
    long_description_content_type="text/markdown",
    maintainer="dvmvs_ros maintainers",
    maintainer_email="dvmvs-ros-maintainers@example.com",
    license="Apache-2.0",
    classifiers=[
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=["dvmvs_core", "dvmvs_core.*", "dvmvs_ros", "dvmvs_ros.*"]),
    package_data={
        "dvmvs_core": ["py.typed", "weights/*.safetensors", "weights/*.json", "weights/*.md"],
        "dvmvs_core.data": ["*.sha256"],
        "dvmvs_core.evaluation.report": ["*.html", "*.css"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml", "LICENSE"]),
        (f"share/{NAME}/launch", sorted(glob("launch/*.launch.py"))),
        *((f"share/{NAME}/{folder}", sorted(glob(f"{folder}/*.*"))) for folder in CONFIGURATION),
    ],
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "dvmvs = dvmvs_core.cli.main:main",
            "depth_node = dvmvs_ros.depth_node:main",
            "depth_nodes = dvmvs_ros.depth_nodes:main",
            "replay_node = dvmvs_ros.replay_node:main",
            "recorder_node = dvmvs_ros.recorder_node:main",
            "evaluation_node = dvmvs_ros.evaluation_node:main",
        ],
    },
)
