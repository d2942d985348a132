# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The `dvmvs` command from its first line: from here on, Ctrl-C and SIGTERM end it in order and with one line.

Next to nothing is imported before the signals are taken, since what comes after takes seconds to import, and libraries
turn a KeyboardInterrupt in their first lines into whatever they like. `dispatch` has the rest.
"""

from __future__ import annotations

import os
import signal
import sys
import time

COMMANDS = {
    "predict": "predict the depth of every keyframe; writes an npz file and pictures",
    "evaluate": "predict depth and score it against sensor depth",
    "check": "check whether poses, K, clock and scale agree with the images",
    "keyframes": "select keyframes and measurement frames; writes an index file",
    "reconstruct": "fuse predicted or sensor depth into a mesh",
    "bag": "convert a scene folder to a rosbag2: image, camera_info, tf and depth",
    "import": "convert recordings of other tools (EuRoC, COLMAP, phones, videos, data sets) to scene folders",
    "synthesize": "render procedural scenes with exact depth",
    "train": "train PairNet, FusionNet or the regulariser",
    "benchmark": "measure latency by stage and memory, and compare with plain torch",
    "weights": "list, describe, import, export, average, calibrate and compress checkpoints",
    "completion": "print a completion script for bash or zsh",
    "warm-up": "compile a network for this machine, so that later starts take seconds",
}

ALIASES = {"export": "import"}
"""Older names of commands."""

EXIT_SIGNAL = 128
"""Exit codes of signals begin here, as a shell has them: 130 for Ctrl-C, 143 for SIGTERM."""

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM"}


PATIENCE_S = 2.0
"""One Ctrl-C may come twice, from the terminal and from a parent; a second after so long ends the process at once."""


class Interruption(KeyboardInterrupt):
    """A signal came; a KeyboardInterrupt, so that whoever cleans up after Ctrl-C does so after SIGTERM too."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: what stands behind `dvmvs`; None for the process's own, which then obeys signals.
    """
    if arguments is None:
        return _as_program()
    from dvmvs_core.cli.dispatch import dispatch

    return dispatch(arguments)


def module_of(command: str) -> str:
    """Return the module that has a command's `Options` and `run`."""
    return f"dvmvs_core.cli.{command.replace('-', '_')}_command"


def configuration() -> tuple:
    """Return how tyro reads the options of every command."""
    import tyro

    return tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff


def _run(command: str, arguments: list[str]) -> int:
    import importlib

    import tyro

    from dvmvs_core.cli.help_texts import describe_options, filled
    from dvmvs_core.cli.outputs import check_outputs

    module = importlib.import_module(module_of(command))
    describe_options(module.Options)
    options = tyro.cli(
        module.Options,
        prog=f"dvmvs {command}",
        description=filled(module.__doc__),
        args=arguments,
        config=configuration(),
    )
    check_outputs(options)
    return module.run(options) or 0


def _as_program() -> int:
    came: list[float] = []
    running = True  # no call may stand between where it changes and the `try` that it is about: signals come at calls

    def on_signal(number: int, _frame: object) -> None:
        if not came:
            came[:] = number, time.monotonic()
            if running:
                raise Interruption
        elif time.monotonic() - came[1] > PATIENCE_S:
            os._exit(EXIT_SIGNAL + number)

    code = 1
    try:
        try:
            for number in WORDS:
                signal.signal(number, on_signal)
            code = main(sys.argv[1:])
        finally:
            sys.stdout.flush()
        running = False
    except BrokenPipeError:
        running = False
        # Whoever read the output has seen enough, as `head` does; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except BaseException:
        running = False
        # Whatever came of it: an ImportError of a library that was interrupted in its first lines, say.
        if not came:
            raise
    for number in WORDS:
        signal.signal(number, signal.SIG_IGN)  # all is done, and Python takes a while to end
    if came:
        code = EXIT_SIGNAL + int(came[0])
        print(f"dvmvs: {WORDS[signal.Signals(came[0])]}", file=sys.stderr, flush=True)
    return code
