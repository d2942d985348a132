# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""A ROS domain of one's own: nodes started for a demo or a test meet nobody else's on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from dvmvs_core.errors import DvmvsError

DOMAINS = range(10, 100)
"""Below 10 are those that people choose by hand; above 101 the ports of DDS meet those of outgoing connections."""

FIRST_PORT = 41300
"""A UDP port per domain, which is the token that it is taken. The ports of DDS itself for these end at 32400."""


class DomainError(DvmvsError):
    """Every domain is taken."""


@contextmanager
def own_domain() -> Iterator[int]:
    """Hold a ROS domain that no other holder on this machine has, and free it at the end, however that comes.

    A bound port and not a file: the system frees it when the process dies, and containers with one network, whose nodes
    hear each other, see each other's ports too.

    Yields:
        The domain's number.

    Raises:
        DomainError: if all are held.
    """
    first = os.getpid() % len(DOMAINS)
    for domain in (*DOMAINS[first:], *DOMAINS[:first]):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as token:
            try:
                token.bind(("127.0.0.1", FIRST_PORT + domain))
            except OSError:
                continue
            yield domain
            return
    raise DomainError(
        f"the ROS domains {DOMAINS[0]} to {DOMAINS[-1]} are all taken: UDP ports {FIRST_PORT + DOMAINS[0]} to"
        f" {FIRST_PORT + DOMAINS[-1]} of the loopback interface are bound. End other demos or tests, or name a domain"
    )
