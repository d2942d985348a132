"""Simulate the keyframe buffer on the poses of a sequence, and write the published index format.

One line a keyframe, "REFERENCE.png BEST.png SECOND.png", or "TRACKING LOST". No network and no image is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dvmvs_core.cli.options import BagOptions, Count, OptionalFile, SequencePath


@dataclass(frozen=True)
class Options:
    """Simulate the keyframe buffer."""

    sequence: SequencePath
    """a scene folder or a rosbag2"""
    measurement_frames: Count = 2
    """how many measurement frames each keyframe gets"""
    out: OptionalFile = None
    """file to write; by default the lines are printed"""
    bag: BagOptions = field(default_factory=BagOptions)


def run(options: Options) -> None:
    """Write or print the index."""
    from dvmvs_core.config import KeyframeConfig
    from dvmvs_core.data.atomic import replacing
    from dvmvs_core.data.keyframe_index import format_index, simulate_keyframes

    config = KeyframeConfig(measurement_frames=options.measurement_frames)
    sequence = options.bag.open(options.sequence)
    entries = list(simulate_keyframes(sequence.poses(), config))
    text = format_index(entries)
    if options.out is None:
        print(text, end="")
        return
    with replacing(options.out) as unfinished:
        unfinished.write_text(text)
    keyframes = sum(entry.reference is not None for entry in entries)
    print(f"{options.out}: {keyframes} keyframes of {len(sequence)} frames")
