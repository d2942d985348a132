"""Predict the depth of every keyframe of a scene folder or a rosbag2.

Writes OUT/predictions.npz (depth, frame_index, measurement_index, stamp_ns, K, world_T_cam) and, now and then, a
picture to OUT/pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from dvmvs_core.cli.options import BagOptions, Count, EngineOptions, OptionalCount, OptionalFile, SequencePath


@dataclass(frozen=True)
class Options:
    """Predict the depth of every keyframe."""

    sequence: SequencePath
    """a scene folder or a rosbag2"""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder to write to"""
    indices: OptionalFile = None
    """an index file that names keyframes and measurement frames, in place of the keyframe rule"""
    limit: OptionalCount = None
    """how many keyframes to predict at most"""
    pictures: Count = 10
    """one picture for every N keyframes; 0 for none"""
    engine: EngineOptions = field(default_factory=EngineOptions)
    bag: BagOptions = field(default_factory=BagOptions)


def run(options: Options) -> None:
    """Predict and say where the result lies."""
    from dvmvs_core.cli.progress import progress
    from dvmvs_core.data.keyframe_index import read_index
    from dvmvs_core.evaluation.predict import PREDICTIONS, predict_indexed, predict_online, write_predictions

    sequence = options.bag.open(options.sequence)
    entries = read_index(options.indices)[: options.limit] if options.indices else None
    engine = options.engine.build()
    with progress(f"predicting {sequence.name}", len(sequence)) as advance:
        if entries is None:
            predictions = predict_online(engine, sequence, bool(options.pictures), advance)
        else:
            predictions = predict_indexed(engine, sequence, entries, bool(options.pictures), advance)
        latencies = write_predictions(predictions, options.out, options.limit, options.pictures)
    latency = sorted(latencies)[len(latencies) // 2]
    print(f"{options.out / PREDICTIONS}: {len(latencies)} keyframes, median {latency:.0f} ms each on {engine.device}")
