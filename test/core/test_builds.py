# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What pip and colcon make of the package: metadata that agree, and everything installed where each looks for it."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import pytest

import dvmvs_core

pytestmark = pytest.mark.slow  # each builds the package

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "out", "build", "install", "log", "*.egg-info", "__pycache__", "test")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the package's source, so that building leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("source") / "dvmvs_ros"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    return copy


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    command = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", out, source]
    subprocess.run([sys.executable, "-m", *command], check=True, cwd=out)
    return zipfile.ZipFile(next(out.glob("dvmvs_ros-*.whl")))


def run_colcon(workspace: Path, *arguments: str) -> str:
    pytest.importorskip("colcon_ros", reason="colcon is not installed")
    command = [sys.executable, "-m", "colcon", "--log-base", "log", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=workspace).stdout


def entry_points(wheel: zipfile.ZipFile) -> dict[str, str]:
    name = next(name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    lines = [line for line in wheel.read(name).decode().splitlines() if " = " in line]
    return dict(line.split(" = ") for line in lines)


def test_colcon_takes_it_for_a_ros_package(source):
    # An invalid maintainer address, for one, makes it plain python, which `ros2 launch` cannot find.
    rows = [row.split("\t") for row in run_colcon(source, "list").splitlines()]
    assert rows == [["dvmvs_ros", ".", "(ros.ament_python)"]]  # and no tf2_msgs to shadow the real one


def test_colcon_installs_the_programs_where_ros2_run_looks(source, tmp_path):
    (tmp_path / "src").mkdir()
    shutil.copytree(source, tmp_path / "src/dvmvs_ros")
    run_colcon(tmp_path, "build")
    prefix = tmp_path / "install/dvmvs_ros"
    programs = {path.name for path in (prefix / "lib/dvmvs_ros").iterdir()}
    assert {"dvmvs", "depth_node", "replay_node"} <= programs
    assert (prefix / "share/ament_index/resource_index/packages/dvmvs_ros").is_file()
    assert (prefix / "share/dvmvs_ros/launch/depth.launch.py").is_file()
    assert (prefix / "share/dvmvs_ros/config/depth.yaml").is_file()
    assert not (prefix / "bin").exists()


def test_the_wheel_holds_every_module(source, wheel):
    modules = {
        path.relative_to(source).as_posix()
        for package in ("dvmvs_core", "dvmvs_ros")
        for path in (source / package).rglob("*.py")
    }
    missing = modules - set(wheel.namelist())
    assert not missing, f"a folder without __init__.py? {sorted(missing)}"


def test_the_wheel_holds_the_weights_with_their_cards(wheel):
    weights = sorted((ROOT / "dvmvs_core/weights").glob("*.safetensors"))
    assert weights
    for path in weights:
        assert f"dvmvs_core/weights/{path.name}" in wheel.namelist()
        assert f"dvmvs_core/weights/{path.stem}.md" in wheel.namelist()


def test_the_wheel_says_that_its_annotations_count(wheel):
    assert "dvmvs_core/py.typed" in wheel.namelist()  # PEP 561: type checkers ignore a package without it


def test_the_wheel_holds_launch_files_and_configuration(wheel):
    installed = {name.split(".data/data/")[1] for name in wheel.namelist() if ".data/data/" in name}
    files = [path for path in (ROOT / "config").rglob("*") if path.is_file()]
    expected = {f"share/dvmvs_ros/{path.relative_to(ROOT).as_posix()}" for path in files}
    expected |= {f"share/dvmvs_ros/launch/{path.name}" for path in (ROOT / "launch").glob("*.launch.py")}
    expected |= {"share/dvmvs_ros/package.xml", "share/dvmvs_ros/LICENSE"}
    assert len(expected) >= 8
    assert expected <= installed


def test_every_program_has_its_function(wheel):
    programs = entry_points(wheel)
    assert programs["dvmvs"] == "dvmvs_core.cli.main:main"
    for name, target in programs.items():
        module, function = target.split(":")
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
        functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert function in functions, f"{name}: {module} has no function {function}"


def test_pip_colcon_and_python_give_one_version(wheel):
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    metadata = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
    versions = {
        "package.xml": manifest.findtext("version"),
        "setup.py": wheel.read(metadata).decode().split("\nVersion: ")[1].split("\n")[0],
        "dvmvs_core": dvmvs_core.__version__,
    }
    assert len(set(versions.values())) == 1, versions
