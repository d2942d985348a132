# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The inside of the `dvmvs` command: finds the subcommand, parses its options and turns known failures into one line.

A subcommand is a module of this package with a frozen dataclass `Options` (or a union of them, for commands with
commands of their own) and a function `run(options)`, which may return an exit code. Only the module asked for is
imported, and it imports what is heavy inside `run`, so that every `--help` answers at once.
"""

from __future__ import annotations

import difflib
import errno
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

from dvmvs_core import __version__
from dvmvs_core.cli import main
from dvmvs_core.cli.main import ALIASES, COMMANDS
from dvmvs_core.errors import DvmvsError
from dvmvs_core.foreign import reason
from dvmvs_core.process import share_cores

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

WIDEST_HELP = 100

EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def dispatch(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    arguments = list(arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if arguments else EXIT_USAGE
    command, *rest = arguments
    if command in ("-V", "--version"):
        print(f"dvmvs {__version__}")
        return 0
    command = ALIASES.get(command, command)
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"commands are {', '.join(COMMANDS)}"
        print(f"dvmvs: there is no command {command!r}; {hint}", file=sys.stderr)
        return EXIT_USAGE
    _show_warnings()
    share_cores()
    try:
        code = main._run(command, rest)
        sys.stdout.flush()
        return code
    except DvmvsError as error:
        return _fail(command, error)
    except BrokenPipeError:
        # Whoever read the output has seen enough, as `head` does; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except OSError as error:  # no space, no permission: for the user to mend
        return _fail(command, _no_space(error) if error.errno in NO_SPACE else error)
    except (ImportError, MemoryError) as error:
        return _fail(command, _no_memory(error))
    except RuntimeError as error:  # torch's for want of memory is one
        if "can't allocate memory" not in str(error):
            raise
        return _fail(command, _no_memory(error))
    except KeyboardInterrupt as error:
        if type(error) is KeyboardInterrupt:  # dvmvs_core.cli.main has words of its own for its signals
            print("dvmvs: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _help() -> str:
    width = max(map(len, COMMANDS))
    columns = min(shutil.get_terminal_size().columns, WIDEST_HELP)
    commands = "\n".join(
        textwrap.fill(summary, columns, initial_indent=f"  {name:<{width}}  ", subsequent_indent=" " * (width + 4))
        for name, summary in COMMANDS.items()
    )
    return (
        "usage: dvmvs COMMAND ...\n\nDense metric depth from one moving camera with known poses.\n\n"
        f"commands:\n{commands}\n\n"
        "dvmvs COMMAND --help describes a command; dvmvs -V prints the version."
    )


def _fail(command: str, error: Exception | str) -> int:
    print(f"dvmvs {command}: {' '.join(str(error).split())}", file=sys.stderr)
    return EXIT_FAILURE


def _no_space(error: OSError) -> str:
    place = error.filename or "a file"
    return (
        f"{place} cannot be written: {error.strerror}. Free some space there, or in TMPDIR where temporary files go,"
        " and run it again; nothing half-written was left"
    )


def _no_memory(error: Exception) -> str:
    said = "" if isinstance(error, MemoryError) else f" ({reason(error)})"
    return (
        f"there is too little memory, or a library cannot be loaded{said}. Free some memory, raise `ulimit -v`, or"
        " install the package again"
    )


def _show_warnings() -> None:
    package = logging.getLogger("dvmvs_core")
    if not any(isinstance(handler, _StderrHandler) for handler in package.handlers):
        package.addHandler(_StderrHandler(logging.INFO))


class _StderrHandler(logging.Handler):
    """One line a warning, to whatever stderr is at the time: a progress bar may have put itself before it."""

    def emit(self, record: logging.LogRecord) -> None:
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        print(f"dvmvs: {level}{record.getMessage()}", file=sys.stderr)
