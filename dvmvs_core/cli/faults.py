# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""What of a recording could not be used, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvmvs_core.data.sequence import FrameSequence

NAMED = 5
"""How many are named; all of them are in the figures of --json."""


def print_faults(name: str, sequence: FrameSequence) -> None:
    """Print how many files and lines of a sequence were left out, and name the first; nothing if there are none.

    Args:
        name: what to call the sequence.
        sequence: after its frames were read.
    """
    faults = list(sequence.faults.items())
    if not faults:
        return
    print(f"{name}: {len(faults)} {'part' if len(faults) == 1 else 'parts'} of it left out, the rest used")
    for what, why in faults[:NAMED]:
        print(f"  {what}: {why}")
    if len(faults) > NAMED:
        print(f"  … and {len(faults) - NAMED} more, as far as {faults[-1][0]}")
