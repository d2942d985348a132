# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Memory over a long bag: `dvmvs evaluate` on a bag of repeated data, and the process's memory meanwhile.

    python benchmarks/bag_memory.py --gigabytes 10 --folder /tmp/bag_memory --json out/bag_memory.json

The bag is made the first time, and stays. The network is tiny and random: it is the reading that is measured, whose
memory must not grow with the bag. Ends with exit code 1 if it grew by more than 50 MB since the first depth.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from dvmvs_core.atomic import replacing
from dvmvs_core.data.sequence import FrameSequence, PoseItem, SequenceItem
from dvmvs_core.process import resident_bytes
from dvmvs_core.types import Frame

HEIGHT, WIDTH = 480, 640
FRAME_BYTES = HEIGHT * WIDTH * (3 + 2)
ALLOWED_MB = 50.0
PERIOD_S = 2.0


@dataclass(frozen=True)
class Options:
    """Measure the memory that evaluating a long bag takes."""

    gigabytes: float = 10.0
    """Size of the bag."""
    folder: Path = Path(tempfile.gettempdir()) / "dvmvs_bag_memory"
    """Where the bag lies."""
    storage: str = "mcap"
    """mcap or sqlite3."""
    json: Path | None = None
    """File for the curve."""


class Repeated(FrameSequence):
    """A camera that goes to and fro before two noisy images with depth."""

    def __init__(self, frames: int) -> None:
        super().__init__(Path("repeated"), has_depth=True)
        self._frames = frames
        random = np.random.default_rng(0)
        self._images = random.integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
        self._depths = (random.integers(500, 6000, (2, HEIGHT, WIDTH)) / 1000.0).astype(np.float32)

    def __len__(self) -> int:
        """Return the number of frames."""
        return self._frames

    def poses(self) -> Iterator[PoseItem]:
        """Yield the poses."""
        for i in range(self._frames):
            world_T_cam = np.eye(4)
            world_T_cam[0, 3] = np.sin(0.05 * i)
            yield PoseItem(i, f"{i:06d}.png", (i + 1) * 33_000_000, world_T_cam)

    def items(self, depth: bool = True) -> Iterator[SequenceItem]:
        """Yield the frames."""
        K = np.array(((500.0, 0.0, 319.5), (0.0, 500.0, 239.5), (0.0, 0.0, 1.0)))
        for pose in self.poses():
            frame = Frame(self._images[pose.index % 2], K, pose.world_T_cam, pose.stamp_ns, pose.index)
            yield SequenceItem(frame, pose.name, self._depths[pose.index % 2])

    def sensor_depths(self, indices):
        """Not needed to write a bag."""
        raise NotImplementedError


def main() -> int:
    """Make the bag if there is none, evaluate it, and say how memory went."""
    options = tyro.cli(Options, description=__doc__)
    frames = int(options.gigabytes * 1e9 / FRAME_BYTES)
    bag = options.folder / f"{options.storage}_{frames}"
    if not bag.exists():
        from dvmvs_core.data.bags.bag_writer import write_bag

        if shutil.disk_usage(options.folder.parent).free < options.gigabytes * 1.2e9:
            print(f"there is no room for {options.gigabytes:g} GB in {options.folder}", file=sys.stderr)
            return 1
        write_bag(Repeated(frames), bag, options.storage)
    curve = measure(bag)
    size_gb = sum(file.stat().st_size for file in bag.iterdir()) / 1e9
    start_mb = curve[0][1]
    grown_mb = max(rss_mb for _, rss_mb in curve) - start_mb
    result = {"bag_gb": size_gb, "frames": frames, "start_mb": start_mb, "grown_mb": grown_mb, "curve": curve}
    if options.json:
        with replacing(options.json) as unfinished:
            unfinished.write_text(json.dumps(result, indent=1) + "\n")
    for seconds, rss_mb in curve[:: max(1, len(curve) // 20)]:
        print(f"{seconds:7.0f} s  {rss_mb:7.1f} MB")
    print(f"a bag of {size_gb:.1f} GB: {start_mb:.0f} MB at the first depth, at most {grown_mb:+.1f} MB after that")
    return 0 if grown_mb <= ALLOWED_MB else 1


def measure(bag: Path) -> list[tuple[float, float]]:
    """Return (seconds, resident megabytes) from the first depth to the end of `dvmvs evaluate`."""
    from dvmvs_core.cli.main import main as dvmvs
    from dvmvs_core.engine import DepthEngine

    curve: list[tuple[float, float]] = []
    done, started_s = threading.Event(), time.monotonic()

    def watch() -> None:
        while not done.wait(PERIOD_S):
            if first.is_set():
                curve.append((round(time.monotonic() - started_s, 1), round(resident_mb(), 1)))

    first = threading.Event()
    predict = DepthEngine.step

    def step(engine: DepthEngine, frame: Frame):
        prediction = predict(engine, frame)
        if prediction is not None and frame.index > 0:
            first.set()
        return prediction

    DepthEngine.step = step
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    with tempfile.TemporaryDirectory() as folder:
        weights = tiny_weights(Path(folder))
        code = dvmvs(["evaluate", str(bag), "--weights", str(weights), "--json", str(Path(folder) / "figures.json")])
    done.set()
    watcher.join()
    if code:
        raise SystemExit(code)
    return curve


def resident_mb() -> float:
    """Return how much memory this process has now."""
    return resident_bytes() / 1e6


def tiny_weights(folder: Path) -> Path:
    """Return a randomly initialised network that runs in milliseconds."""
    import torch

    from dvmvs_core.config import preset
    from dvmvs_core.model.checkpoint import save_checkpoint
    from dvmvs_core.model.dvmvs import build_network

    torch.manual_seed(0)
    sizes = {"extractor_stem": 8, "extractor_channels": (8, 8, 8, 16, 16), "pyramid_channels": 8, "hyper_channels": 8}
    config = preset("small", height=64, width=96, depth_hypotheses=16, **sizes)
    save_checkpoint(folder / "tiny.safetensors", {"fusionnet": build_network(config).eval()}, {"note": "random"})
    return folder / "tiny.safetensors"


if __name__ == "__main__":
    sys.exit(main())
