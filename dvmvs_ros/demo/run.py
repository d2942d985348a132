# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""The whole way from camera to depth: player, depth node and recorder as processes of their own, over DDS.

    python -m dvmvs_ros.demo.run [--sequence PATH|office] [--out out/demo] [--limit N] [--view rerun|foxglove]

Ends with a table, and in the output folder with strip.png, cloud.png, demo.mcap, predictions.npz and summary.json;
with a view, also in a viewer.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dvmvs_core.atomic import replacing
from dvmvs_core.data.office import OFFICE, SIZE_MB, fetch_office, office_address, office_folder, read_manifest
from dvmvs_core.data.open_sequence import open_sequence
from dvmvs_core.data.sequence import FrameSequence
from dvmvs_core.errors import DvmvsError
from dvmvs_core.process import share_cores
from dvmvs_core.progress import progress
from dvmvs_ros import recorder_node
from dvmvs_ros.process.children import ROOT, Child, ProcessError, own_domain, ros_environment

if TYPE_CHECKING:
    from dvmvs_ros.demo.demo_report import DemoReport

SILENCE_S = 120.0
"""A demo in which nothing happens for this long has failed."""

ROOM = ROOT / "examples" / "room"

METRIC_NAMES = {
    "abs_error": "absolute error, m",
    "abs_relative_error": "absolute relative error",
    "abs_inverse_error": "absolute inverse error, 1/m",
    "squared_relative_error": "squared relative error, m",
    "rmse": "root mean squared error, m",
    "ratio_125": "within 1.25",
    "ratio_125_2": "within 1.25²",
    "ratio_125_3": "within 1.25³",
}


@dataclass(frozen=True)
class Options:
    """Run the depth node on a recording, and show what comes out of it."""

    sequence: str | None = None
    """Scene folder or rosbag2; office fetches a real recording (143 MB); by default the rendered room in examples/."""
    out: Path = Path("out/demo")
    """Folder for the results."""
    limit: int = 0
    """Images to play; 0 = all."""
    weights: str = "small"
    """A safetensors file, or the name of a shipped checkpoint."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    view: Literal["rerun", "foxglove"] | None = None
    """Viewer to show the result in: rerun gets a demo.rrd, Foxglove opens demo.mcap."""
    domain: int | None = None
    """ROS domain of the demo's processes; by default one that no other demo on this machine is in."""


def main() -> int:
    """Run the demo from the command line; returns 0, 1 for what a user can fix, 130 after Ctrl-C."""
    options = tyro.cli(Options, prog="python -m dvmvs_ros.demo.run")
    share_cores()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts its background jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    console = Console()
    try:
        run(options, console)
    except DvmvsError as error:
        console.print(f"demo: {error}", style="red", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("demo: stopped; all of its processes have ended")
        return 130
    return 0


def run(options: Options, console: Console) -> None:
    """Run the demo.

    Raises:
        DvmvsError: if the sequence or the weights cannot be used, or a process fails.
    """
    if options.view:
        from dvmvs_ros.demo.view import check_view, open_view

        check_view(options.view)
    out = options.out
    for leftover in ("recording", "logs"):
        shutil.rmtree(out / leftover, ignore_errors=True)
    (out / "logs").mkdir(parents=True)
    sequence = open_sequence(_sequence_path(options.sequence, console))
    for note in sequence.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    with own_domain() if options.domain is None else nullcontext(options.domain) as domain:
        _play(options, sequence, domain, console)
    with console.status("[3/3] scoring what was recorded, and drawing it"):
        # Imported here: the parts above need neither, and the processes start a second sooner.
        from dvmvs_ros.demo.demo_report import make_report, write_pictures

        mcap, predictions = _keep_mcap(out), out / "predictions.npz"
        report = make_report(mcap, out / "logs" / "sent.json", sequence, options.weights, predictions)
        write_pictures(predictions, mcap, sequence, out / "strip.png", out / "cloud.png")
        with replacing(out / "summary.json") as unfinished:
            unfinished.write_text(json.dumps(report.to_dict(), indent=2) + "\n")
    _print_table(report, console)
    console.print(f"{out}/: strip.png, cloud.png, demo.mcap, predictions.npz, summary.json", highlight=False)
    if options.view:
        with console.status(f"preparing the recording for {options.view}"):
            line = open_view(options.view, mcap)
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _sequence_path(wanted: str | None, console: Console) -> Path:
    """Return what to play: the room of the repository, the fetched office, or a recording of the user's."""
    if wanted is None:
        return ROOM
    if wanted != OFFICE:
        return Path(wanted)
    console.print(
        f"the office: {SIZE_MB} MB from {office_address()}, kept in {office_folder()}", soft_wrap=True, highlight=False
    )
    with progress("fetching what is missing", len(read_manifest()), console=console) as advance:
        return fetch_office(advance)


def _play(options: Options, sequence: FrameSequence, domain: int, console: Console) -> None:
    """Run the three processes in a ROS domain until all images are played and answered."""
    logs = options.out / "logs"
    total = min(options.limit or len(sequence), len(sequence))
    environment = ros_environment(domain)
    console.print(
        f"{total} images of {sequence.name} through the depth node (ROS domain {domain}, logs in {logs})",
        highlight=False,
    )
    with (
        ExitStack() as children,
        progress("[1/3] starting the depth node", total, console=console, once_moving=PLAYING) as advance,
    ):

        def start(module: str, parameters: dict, remap: dict[str, str] | None = None, pipe: bool = False) -> Child:
            child = Child(module, parameters, remap or {}, environment, logs, pipe)
            children.callback(child.stop)
            return child

        node = start("depth_node", _node_parameters(options), {name: f"/{topic}" for name, topic in INPUTS.items()})
        recorder = start("recorder_node", {"out": str(options.out / "recording"), "known_to": "/depth_node"})
        player = start("replay_node", _player_parameters(options, sequence), pipe=True)
        for _ in _lines(player, watched=(node, recorder)):
            advance(1)
        if player.wait() != 0:
            raise player.failure()
        if recorder.stop() != 0:
            raise recorder.failure()
        if node.stop() != 0:
            raise node.failure()


PLAYING = "[2/3] playing, one answer at a time"

INPUTS = {
    "image": recorder_node.IMAGE,
    "camera_info": recorder_node.CAMERA_INFO,
    "valid_mask": recorder_node.VALID_MASK,
}
"""The depth node's inputs, and the topics of the player that they are connected to."""


def _node_parameters(options: Options) -> dict[str, object]:
    reliable = {f"qos_overrides./{topic}.subscription.reliability": "reliable" for topic in INPUTS.values()}
    return {
        "weights": options.weights,
        "device": options.device,
        "use_sim_time": True,
        # Cameras are best effort; here every frame shall count, and one image is on its way at a time.
        **reliable,
    }


def _player_parameters(options: Options, sequence: FrameSequence) -> dict[str, object]:
    return {
        "sequence": str(sequence.path.resolve()),
        "limit": options.limit,
        "rate": 0.0,
        "lockstep": True,
        "subscribers": 2,  # the node and the recorder
        "summary_file": str(options.out / "logs" / "sent.json"),
        "progress": True,
    }


def _lines(player: Child, watched: tuple[Child, ...]) -> Iterator[str]:
    """Yield what the player prints until it ends.

    Raises:
        ProcessError: if a process that should run has ended, or nothing happens for too long.
    """
    lines: Queue[str | None] = Queue()

    def read() -> None:
        for line in player.output:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    silent_s = 0.0
    while True:
        try:
            line = lines.get(timeout=0.5)
        except Empty:
            silent_s += 0.5
            for child in watched:
                child.check()
            if silent_s > SILENCE_S:
                raise ProcessError(f"nothing has happened for {SILENCE_S:.0f} s; the logs say more") from None
            continue
        if line is None:
            return
        silent_s = 0.0
        yield line


def _keep_mcap(out: Path) -> Path:
    """Move the recording's only file to its final name; an mcap needs no metadata next to it."""
    (mcap,) = (out / "recording").glob("*.mcap")
    os.replace(mcap, out / "demo.mcap")
    shutil.rmtree(out / "recording")
    return out / "demo.mcap"


def _print_table(report: DemoReport, console: Console) -> None:
    table = Table(title=f"{report.sequence}, weights {Path(report.weights).stem}", title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.show_header = False
    rows = {
        "frames sent": report.frames_sent,
        "keyframes": report.keyframes,
        "  with depth; a first one has nothing to match": report.depths,
        "depth images received by the recorder": report.depth_images,
        "clouds received by the recorder": report.clouds,
        "frames dropped": sum(report.dropped.values()),
        **{f"  {reason.replace('_', ' ')}": number for reason, number in report.dropped.items()},
        "image sent to depth received: median, p95": _milliseconds(report.latency_ms),
        "  of it, the network: median, p95": _milliseconds(report.inference_ms),
    }
    if report.metrics is not None:
        figures = report.metrics.to_dict()
        for name, title in METRIC_NAMES.items():
            rows[title] = _figure(figures[name])
            if name == "abs_relative_error":
                rows["  of a constant, each image's median"] = _figure(report.constant_abs_relative_error)
    for title, figure in rows.items():
        table.add_row(Text(title), Text(str(figure)))
    console.print(table)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _milliseconds(spread: dict[str, float]) -> str:
    return f"{spread['median']:.0f}, {spread['p95']:.0f} ms"


if __name__ == "__main__":
    sys.exit(main())
