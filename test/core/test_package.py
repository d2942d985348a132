# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The package as pip and colcon see it: metadata that agree, and everything installed where each looks for it."""

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


def test_the_manifest_is_valid():
    package = pytest.importorskip("catkin_pkg.package", reason="catkin_pkg is not installed")
    warnings: list[str] = []
    manifest = package.parse_package(str(ROOT / "package.xml"), warnings=warnings)
    assert warnings == []
    assert manifest.package_format == 3 and manifest.get_build_type() == "ament_python"
    depends = [depend.name for depend in (*manifest.build_depends, *manifest.exec_depends, *manifest.test_depends)]
    assert not [name for name in depends if name.endswith("-pip")], "a released package may not depend on pip keys"


def test_the_licence_is_there_whole():
    licence = ElementTree.parse(ROOT / "package.xml").getroot().find("license")
    text = (ROOT / licence.get("file")).read_text()
    assert licence.text == "Apache-2.0"
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("folder", ["benchmarks", "dvmvs_core", "dvmvs_ros", "launch", "test"])
def test_every_file_names_owner_and_licence(folder):
    missing = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text()
        head = text.partition('"""')[0]
        if text.strip() and not ("# Copyright 2026 dvmvs_ros maintainers" in head and "Apache License" in head):
            missing.append(str(path.relative_to(ROOT)))
    assert not missing


def test_the_headers_pass_aments_linter():
    lint = pytest.importorskip("ament_copyright.main", reason="ament_copyright is not installed")
    assert lint.main([str(ROOT / "dvmvs_core"), str(ROOT / "dvmvs_ros"), str(ROOT / "CONTRIBUTING.md")]) == 0


def test_xml_files_pass_aments_linter():
    lint = pytest.importorskip("ament_xmllint.main", reason="ament_xmllint is not installed")
    assert lint.main([str(ROOT / "package.xml"), str(ROOT / "config")]) == 0


def test_every_ros_library_in_use_is_declared():
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    declared = {element.text for element in manifest if element.tag.endswith("depend")}
    used = set()
    for path in (path for folder in ("dvmvs_ros", "launch", "test/ros") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                used.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                used.add(node.module.split(".")[0])
    ros = {name for name in used if name.endswith(("_msgs", "_srvs", "_interfaces"))}
    ros |= used & {"rclpy", "cv_bridge", "launch", "launch_ros", "ament_index_python"}
    if "tf2_ros" in used:
        ros.add("tf2_ros_py")
    assert ros - declared == set(), "add them to package.xml"
    assert {name for name in declared if name.endswith("_msgs")} - ros == set(), "declared and not used"
