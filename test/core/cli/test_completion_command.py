# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
$(complete -p dvmvs | grep -o '[^ ]*_dvmvs')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "dvmvs.bash"
    with path.open("w") as out:
        subprocess.run([sys.executable, "-m", "dvmvs_core", "completion", "bash"], stdout=out, check=True)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("ev",), {"evaluate"}),
        (("evaluate", "--ba"), {"--baselines"}),
        (("evaluate", "--matching", ""), {"auto", "off", "fast", "full"}),
        (("weights", "li"), {"list"}),
        (("weights", "export", "--fo"), {"--format"}),
        (("train", "pairnet", "--pre"), {"--preset", "--precision"}),
    ],
)
def test_bash_completes_commands_options_and_choices(script, words, completed):
    command = ["bash", "-c", COMPLETE, "bash", str(script), "dvmvs", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == completed, done.stderr


def test_zsh_gets_a_script(dvmvs):
    code, out, _ = dvmvs("completion", "zsh")
    assert code == 0 and "reconstruct" in out and "--baselines" in out
