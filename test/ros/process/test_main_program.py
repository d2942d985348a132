# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import signal
import subprocess
import sys

SLOW_TO_END = """
import time
from dvmvs_ros.process.main_program import ros_process

class Slow:
    def __del__(self, print=print, sleep=time.sleep):
        print("ending", flush=True)
        sleep(0.5)

slow = Slow()
with ros_process([]) as stop:
    print("running", flush=True)
    while not stop.wait(0.1):  # as `spin` does: a signal may reach another thread than the one that waits
        pass
"""


def test_arguments_that_ros_cannot_use_are_one_line(ros_environment):
    command = (sys.executable, "-m", "dvmvs_ros.recorder_node", "--ros-args", "--params-file", "/no/such/file.yaml")
    done = subprocess.run(command, env=ros_environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 1
    assert "ROS refuses" in done.stderr and "/no/such/file.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_ctrl_c_while_python_ends_is_no_death(ros_environment):
    """From the terminal first, and from ros2 launch a while later."""
    command = (sys.executable, "-c", SLOW_TO_END)
    process = subprocess.Popen(command, env=ros_environment, stdout=subprocess.PIPE, text=True)
    for said in ("running", "ending"):
        assert process.stdout.readline().strip() == said
        process.send_signal(signal.SIGINT)
    assert process.wait(250) == 0
    process.stdout.close()
