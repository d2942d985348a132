# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The package's metadata and headers."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.mark.parametrize(
    ("linter", "paths"),
    [("ament_copyright", ("dvmvs_core", "dvmvs_ros", "CONTRIBUTING.md")), ("ament_xmllint", ("package.xml", "config"))],
)
def test_files_pass_aments_linters(linter, paths):
    lint = pytest.importorskip(f"{linter}.main", reason=f"{linter} is not installed")
    assert lint.main([str(ROOT / path) for path in paths]) == 0


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
