# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Print a script that completes commands and options of `dvmvs` in a shell.

dvmvs completion bash > ~/.local/share/bash-completion/completions/dvmvs

dvmvs completion zsh > ~/.zfunc/_dvmvs

For zsh, put ~/.zfunc into fpath before compinit. Run it again after an update.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Options:
    """Complete `dvmvs` in a shell."""

    shell: Annotated[Literal["bash", "zsh"], tyro.conf.Positional]
    """which shell"""


def run(options: Options) -> None:
    """Print the script of all commands as one."""
    import contextlib
    import dataclasses
    import importlib
    from typing import Union, get_args

    from dvmvs_core.cli.help_texts import describe_options
    from dvmvs_core.cli.main import COMMANDS, configuration, module_of

    commands = []
    for command, summary in COMMANDS.items():
        one = importlib.import_module(module_of(command)).Options
        describe_options(one)
        if get_args(one):  # commands of its own, which tyro would else list next to the others
            one = dataclasses.make_dataclass(command, [("command", one)])
        commands.append(Annotated[one, tyro.conf.subcommand(command, description=summary)])
    whole = Union[tuple(commands)]  # noqa: UP007  of as many as there are
    with contextlib.suppress(SystemExit):
        tyro.cli(whole, prog="dvmvs", args=["--tyro-print-completion", options.shell], config=configuration())
