"""How the network's threads share the processor with other programs."""

from __future__ import annotations

import os


def share_cores() -> None:
    """Let threads that wait for one another sleep instead of spinning; call it before torch is imported.

    OpenMP's threads spin at the end of every parallel step by default. On a robot that runs anything else, the
    spinning thread keeps the core from the one that it waits for: with one other busy process on two cores, a keyframe
    of `small` took 8.9 s, and 0.31 s with sleeping threads. OMP_WAIT_POLICY in the environment still has the last word.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
