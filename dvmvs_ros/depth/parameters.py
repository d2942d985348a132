# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The depth node's parameters as ROS has them: declared, described, and changed only to what can be used."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from dvmvs_core.errors import ConfigError
from dvmvs_ros.depth.config import LiveConfig, NodeConfig, Value, build_config, build_live
from dvmvs_ros.depth.settings import SETTINGS, Setting


class Parameters:
    """The parameters of one node: declares them, and refuses changes that cannot be used.

    An override of the wrong type or out of range does not end the process: `config` raises until it is corrected.

    Args:
        node: the node to declare them on.
        may_change: tells whether the node is in a state that lets parameters change (unconfigured) that are not live.
    """

    def __init__(self, node: Node, may_change: Callable[[], bool]) -> None:
        self._node = node
        self._may_change = may_change
        self._problems: dict[str, str] = {}
        self._live: LiveConfig | None = None
        for setting in SETTINGS:
            self._declare(setting)
        self._warn_of_unknown()
        node.add_on_set_parameters_callback(self._check)

    def config(self) -> NodeConfig:
        """Return the configuration.

        Raises:
            ConfigError: with the reason, if a parameter cannot be used.
        """
        for problem in self._problems.values():
            raise ConfigError(problem)
        values = self._values()
        self._live = build_live(values)
        return build_config(values)

    @property
    def live(self) -> LiveConfig:
        """The part of the configuration that may change at any time; `config` must have succeeded before."""
        return self._live

    def __getitem__(self, name: str) -> Value:
        """Return one parameter's value."""
        return self._node.get_parameter(name).value

    def _values(self) -> dict[str, Value]:
        return {setting.name: self[setting.name] for setting in SETTINGS}

    def _declare(self, setting: Setting) -> None:
        try:
            self._node.declare_parameter(setting.name, setting.default, setting.descriptor())
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            kind = {bool: "a boolean", int: "an integer", float: "a number with a point", str: "text"}
            wanted = kind[type(setting.default)]
            if setting.low is not None:
                wanted += f" from {setting.low:g} to {setting.high:g}"
            self._problems[setting.name] = f"parameter {setting.name} must be {wanted}: {error}"
            self._node.declare_parameter(setting.name, setting.default, setting.descriptor(), ignore_override=True)

    def _warn_of_unknown(self) -> None:
        """Name the values given under names that no parameter has, which ROS passes over in silence."""
        given = getattr(self._node, "_parameter_overrides", {})  # there is no public way to ask for them
        # Quality of service is declared topic by topic, later.
        unknown = [n for n in given if not self._node.has_parameter(n) and not n.startswith("qos_overrides.")]
        names = []
        for name in sorted(unknown):
            like = difflib.get_close_matches(name, [setting.name for setting in SETTINGS], 1)
            names.append(f"{name} (did you mean {like[0]}?)" if like else name)
        if names:
            self._node.get_logger().warning(f"no such parameter, so its value is not used: {', '.join(names)}")

    def _check(self, changes: Sequence[Parameter]) -> SetParametersResult:
        known = {setting.name: setting for setting in SETTINGS}
        changed = {parameter.name: parameter.value for parameter in changes if parameter.name in known}
        if not changed:
            return SetParametersResult(successful=True)
        fixed = sorted(name for name in changed if not (known[name].live or known[name].at_start))
        if fixed and not self._may_change():
            return SetParametersResult(
                successful=False,
                reason=f"{', '.join(fixed)} can change while the node is unconfigured only:"
                " deactivate and clean it up first",
            )
        values = {**self._values(), **changed}
        try:
            build_config(values)
            if fixed := sorted(name for name in changed if known[name].at_start and changed[name] != self[name]):
                raise ConfigError(f"{', '.join(fixed)} can be given at the node's start only")
            # The last check before rclpy applies the values, so nothing can refuse them any more.
            self._live = build_live(values)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for name in changed:
            self._problems.pop(name, None)
        return SetParametersResult(successful=True)
