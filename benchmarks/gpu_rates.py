# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Rates of one GPU: two cameras against one, other shapes, the operations of a keyframe, and the renderer; as JSON.

    python benchmarks/gpu_rates.py --device cuda --seconds 90 OUT.json

Each figure is written as soon as it is known, so that a run that is ended early leaves those before it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from profiled_operations import longest
from torch.profiler import profile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dvmvs_core.atomic import replacing  # noqa: E402
from dvmvs_core.config import EngineConfig, KeyframeConfig, preset  # noqa: E402
from dvmvs_core.engine import DepthEngine  # noqa: E402
from dvmvs_core.model.dvmvs import build_network  # noqa: E402
from dvmvs_core.runtime.wall_frames import wall_frames  # noqa: E402
from dvmvs_core.synthetic.clips import SyntheticClips  # noqa: E402
from dvmvs_core.timing.scaling import measure_point  # noqa: E402

FRAMES = 6
WARM_UP = 6


def main() -> None:
    """Measure what there is time for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=90.0, help="no figure is begun after so many")
    parser.add_argument("--keyframes", type=int, default=60)
    parser.add_argument("--clips", type=int, default=8, help="rendered at once")
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=320)
    options = parser.parse_args()
    end, figures = time.monotonic() + options.seconds, {}
    for name, measure in _figures(options):
        try:
            figures[name] = measure() if time.monotonic() < end else "not begun: no time left"
        except Exception as error:  # the next figure may still be had
            traceback.print_exc()
            figures[name] = f"{type(error).__name__}: {error}"
        with replacing(options.out) as unfinished:
            unfinished.write_text(json.dumps(figures, indent=2) + "\n")
        print(name, figures[name], flush=True)


def _figures(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], object]]]:
    size = (options.height, options.width)
    half, double = tuple(max(64, side // 64 * 32) for side in size), tuple(2 * side for side in size)
    precision = "float16" if options.device.startswith("cuda") else "float32"
    yield "cameras_keyframes_per_s", lambda: _cameras(size, precision, options)
    yield "keyframe_ms", lambda: _shapes((size, double), precision, options)
    yield "operations_us", lambda: _operations(size, precision, options)
    for one in (half, size):
        yield f"renderer_{one[1]}x{one[0]}_frames_per_s", lambda one=one: _renderer(one, options)


def _renderer(size: tuple[int, int], options: argparse.Namespace) -> dict[str, float]:
    """Frames a second that are rendered, and drawn by one core."""
    device = options.device
    clips = SyntheticClips(*size, FRAMES, textures=64, device=device)
    started = time.perf_counter()
    shots = [clips.draw(options.clips, index) for index in range(3)]
    drawn_s = time.perf_counter() - started
    rendered_s = []
    for drawn in shots:  # the first one compiles nothing, but fills caches and pools
        _wait(device)
        started = time.perf_counter()
        clips.render(drawn)
        _wait(device)
        rendered_s.append(time.perf_counter() - started)
    frames = options.clips * FRAMES
    return {"rendered": round(frames / min(rendered_s[1:]), 1), "drawn_by_a_core": round(3 * frames / drawn_s, 1)}


def _cameras(size: tuple[int, int], precision: str, options: argparse.Namespace) -> dict[str, float]:
    """Keyframes a second of one camera, and of two that share a network, together."""
    config = EngineConfig(device=options.device, precision=precision, matching="off")
    first = DepthEngine(_paper(size), config)
    first.warm_up()
    engines = [first, first.sibling(config)]
    rates = {}
    for count in (1, 2):
        frames = [wall_frames(seed=seed) for seed in range(count)]
        for engine in engines:
            engine.reset()
        started = 0.0
        for number in range(WARM_UP + options.keyframes):
            if number == WARM_UP:
                started = time.perf_counter()
            for engine, camera in zip(engines, frames, strict=False):
                engine.step(next(camera))
        rates[str(count)] = round(count * options.keyframes / (time.perf_counter() - started), 1)
    return rates


def _shapes(sizes: Sequence[tuple[int, int]], precision: str, options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of a keyframe of each size with two and with seven measurement frames, the median."""
    figures = {}
    for size in sizes:
        for count in (2, 7):
            rule = KeyframeConfig(measurement_frames=count)
            config = EngineConfig(device=options.device, precision=precision, matching="off", keyframes=rule)
            measured = measure_point(_paper(size), config.replace(confidence=False), options.keyframes)
            figures[f"{size[1]}x{size[0]}, {count}"] = measured["frame_ms"]
    return figures


def _operations(size: tuple[int, int], precision: str, options: argparse.Namespace) -> dict[str, float]:
    """Microseconds a keyframe of what takes longest: on the device its kernels and copies, on the host its calls."""
    config = EngineConfig(device=options.device, precision=precision, matching="off", confidence=False)
    engine = DepthEngine(_paper(size), config)
    engine.warm_up()
    frames = wall_frames()
    for frame in islice(frames, WARM_UP):
        engine.step(frame)
    _wait(options.device)
    with profile() as profiled:
        for frame in islice(frames, options.keyframes):
            engine.step(frame)
        _wait(options.device)
    return longest(profiled, 80, runs=options.keyframes)


def _paper(size: tuple[int, int]):
    torch.manual_seed(0)
    return build_network(preset("paper", height=size[0], width=size[1])).eval()


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
