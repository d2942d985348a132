#!/usr/bin/env python3
# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Score every recording at hand with every released network, and write the tables of field.md.

    python benchmarks/field.py FOLDER ...
    python benchmarks/field.py FOLDER ... --variant "matching: --matching full" --variant "refined: --refine"

A folder is a scene folder or holds some. Each runs through `dvmvs evaluate`, every keyframe, with the options that
field_scenes.yaml has for its name. With --keep FOLDER a later call runs only what is new; empty it when the code
changed.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ruamel.yaml import YAML

from dvmvs_core.atomic import replacing
from dvmvs_core.cli.main import main as dvmvs
from dvmvs_core.environment import fingerprint
from dvmvs_core.errors import ConfigError, DataError, DvmvsError
from dvmvs_core.evaluation.scoring.figures import CONSTANT_MEDIAN, read_figures
from dvmvs_core.evaluation.scoring.scene_table import parallax_rows, scene_cells
from dvmvs_core.model.checkpoint import list_shipped, read_info

HERE = Path(__file__).resolve().parent
SCENE_FILES = ("images", "depth", "poses.txt", "K.txt")


@dataclass(frozen=True)
class Variant:
    """A way to run the networks.

    Attributes:
        name: for the table; empty for the networks as they are.
        options: of `dvmvs evaluate`.
    """

    name: str = ""
    options: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Return the variant that "NAME: OPTIONS" describes.

        Raises:
            ConfigError: if it has no name or no options.
        """
        name, _, options = text.partition(":")
        if not name.strip() or not options.strip():
            raise ConfigError(f'--variant must have the form "NAME: OPTIONS of dvmvs evaluate"; got {text!r}')
        return cls(name.strip(), tuple(shlex.split(options)))


def find_scenes(folders: Iterable[Path]) -> list[Path]:
    """Return the scene folders with sensor depth among folders and right inside them, without doubles.

    Raises:
        DataError: if a folder is none and holds none, or two have one name.
    """
    scenes: dict[str, Path] = {}
    for folder in folders:
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        found = [path for path in (folder, *inside) if all((path / name).exists() for name in SCENE_FILES)]
        if not found:
            raise DataError(f"{folder} must be a scene folder or hold some, each with {', '.join(SCENE_FILES)}")
        for path in map(Path.resolve, found):
            if scenes.setdefault(path.name, path) != path:
                raise DataError(f"{path} and {scenes[path.name]} have one name, so the table could not tell them apart")
    return list(scenes.values())


def scene_options(file: Path) -> dict[str, tuple[str, ...]]:
    """Return the options of each recording that needs some, by the name of its folder.

    Raises:
        ConfigError: if the file does not map names to options.
    """
    read = YAML(typ="safe").load(file) or {}
    if not isinstance(read, dict) or not all(isinstance(options, str) for options in read.values()):
        raise ConfigError(f"{file} must map names of scene folders to options, as in apc-shelf: --min-depth 0.25")
    return {str(name): tuple(shlex.split(options)) for name, options in read.items()}


def evaluate(scene: Path, weights: str, network: str, options: tuple[str, ...], keep: Path) -> dict:
    """Return the figures of `dvmvs evaluate`, or those that an earlier call kept.

    Args:
        scene: the scene folder.
        weights: file or name.
        network: which of its networks.
        options: further options.
        keep: folder for the figures, one file for each scene, weights, network and options.

    Raises:
        DataError: if it fails; it has said why.
    """
    run = ("evaluate", str(scene), "--weights", weights, "--network", network, *options)
    name = "_".join((scene.name, fingerprint(read_info(weights).path), network, *options))
    file = keep / (re.sub(r"[^\w.-]", "_", name) + ".json")
    if not file.exists():
        print("dvmvs", shlex.join(run), flush=True)
        if dvmvs([*run, "--json", str(file)]):
            raise DataError(f"dvmvs {shlex.join(run)} failed, so there is nothing to write")
    return read_figures(file)


def constant_part(part: dict) -> dict:
    """Return the figures of the constant median as those of a network: it has no edge, and no confidence."""
    metrics = part["baselines"][CONSTANT_MEDIAN]["metrics"]
    return {
        **part,
        "metrics": metrics,
        "ratio_to_constant": None if metrics["abs_relative_error"] is None else 1.0,
        "boundary_f1": None if part["boundary_f1"] is None else 0.0,
        "steps": {name: 0.0 if part["steps"][name] is not None else None for name in ("size_ratio", "shown")},
        "temporal_disagreement": None,
        "by_parallax": [],
        "sure_and_wrong": None,
    }


def label(figures: dict, variant: Variant) -> str:
    """Return what the table calls a run."""
    weights = Path(str(figures["weights"])).name.removesuffix(".safetensors")
    return f"{weights} {figures['network']}" + (f", {variant.name}" if variant.name else "")


def ordered(scenes: dict[str, list[tuple[str, dict]]]) -> list[tuple[str, str, dict]]:
    """Return (scene, label, figures of its sequence) of all runs, the scene with the worst ratio first, runs likewise.

    Args:
        scenes: name of a scene → label and figures of each run; the constant comes last in each.
    """

    def ratio(part: dict) -> float:
        return -1.0 if part["ratio_to_constant"] is None else part["ratio_to_constant"]

    rows = []
    for name in sorted(scenes, key=lambda name: -max(ratio(part) for _, part in scenes[name])):
        runs = sorted(scenes[name], key=lambda run: -ratio(run[1]))
        rows += [(name, title, part) for title, part in runs]
        rows.append((name, "constant median", constant_part(runs[0][1])))
    return rows


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown; all columns but the first two are right-aligned."""
    header = tuple(header)
    lines = [header, ("---", "---", *("--:" for _ in header[2:])), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page(rows: list[tuple[str, str, dict]], runs: list[dict], options: dict[str, tuple[str, ...]], command: str) -> str:
    """Return field.md.

    Args:
        rows: what `ordered` returns.
        runs: the figures of every run.
        options: the options of each scene that has some.
        command: what made it.
    """
    cells = [scene_cells(part) for _, _, part in rows]
    main_table = table(
        ("sequence", "depth", *cells[0]),
        ((scene, title, *row.values()) for (scene, title, _), row in zip(rows, cells, strict=True)),
    )
    networks = [(scene, title, part) for scene, title, part in rows if part["by_parallax"]]
    header, parallax = parallax_rows([part for *_, part in networks])
    parallax_table = table(
        ("sequence", "depth", *header),
        ((scene, title, *row[1:]) for (scene, title, _), row in zip(networks, parallax, strict=True)),
    )
    first = runs[0]
    weights = sorted({f"`{Path(str(one['weights'])).name}` (SHA-256 {one['weights_sha256']}…)" for one in runs})
    scored = sorted({part["name"] for one in runs for part in one["sequences"]} & options.keys())
    said = "".join(f", {name} with `{shlex.join(options[name])}`" for name in scored)
    return f"""# Depth on real recordings

None was trained on. Every keyframe, past frames only unless a row says otherwise, sensor depth from 0.5 m{said}.
The recording that is worst against a constant depth comes first.
A network without an addition runs as by default, with `matching: auto`.

```bash
{command}
```

{main_table}
- *ratio*: abs rel over that of *constant*, each keyframe's own median of the truth. Above 1 depth is of no use.
- *edge F1*: boundary F1 by the definition of Depth Pro. *Step size*: predicted over true log-depth step at the pixels
  of the true steps (over 15 % between neighbours). *Shown*: share of the 9×9 windows with a true step in which the
  prediction has one. Where a sensor sees nothing for some pixels next to every edge, the first two rest on few
  pixels; the windows reach across.
- *sure*: share of the pixels with confidence from 0.7. *Wrong*: share of those that is off by more than 10 %.
- *flicker*: how far the last keyframe's depth, moved into the view, is from this one's.

## By parallax

Parallax is how far a depth step of 25 % moves the point of a pixel in a measurement frame, in pixels of the network's
image; of several frames the largest. Cells are abs rel/share within 1.25/share of the pixels.

{parallax_table}
Made {first["made"]} on {first["device"]} ({first["hardware"]["processor"]}); {", ".join(weights)};
{", ".join(f"{name} {version}" for name, version in first["versions"].items())}.
`dvmvs_core/evaluation/` defines every figure, and `dvmvs evaluate --json` has more of them.
"""


def main(arguments: list[str] | None = None) -> int:
    """Evaluate everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="scene folders, or folders of them")
    parser.add_argument("--weights", nargs="+", default=[], help="files or names; by default all that are shipped")
    parser.add_argument(
        "--variant", action="append", default=[], metavar='"NAME: OPTIONS"', help="run the networks in this way as well"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the figures there, and take those that are there already"
    )
    parser.add_argument("--scenes", type=Path, default=HERE / "field_scenes.yaml", help="options of recordings")
    parser.add_argument("--out", type=Path, default=HERE / "field.md", help="the page")
    given = parser.parse_args(arguments)
    try:
        scenes, options = find_scenes(given.folders), scene_options(given.scenes)
        variants = [Variant(), *map(Variant.parse, given.variant)]
        networks = [(w, network) for w in given.weights or list_shipped() for network in read_info(w).networks]
        results: dict[str, list[tuple[str, dict]]] = {}
        runs = []
        with tempfile.TemporaryDirectory() as temporary:
            for scene, (weights, network), variant in product(scenes, networks, variants):
                own = (*options.get(scene.name, ()), *variant.options)
                runs.append(evaluate(scene, weights, network, own, given.keep or Path(temporary)))
                run = (label(runs[-1], variant), runs[-1]["sequences"][0])
                results.setdefault(scene.name, []).append(run)
        text = page(ordered(results), runs, options, _command(given))
    except DvmvsError as error:
        print(f"field.py: {error}", file=sys.stderr)
        return 1
    with replacing(given.out) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    print(f"wrote {given.out}")
    return 0


def _command(given: argparse.Namespace) -> str:
    """The command, with folders and files by their names alone: their paths mean nothing on another machine."""
    parts = ["python", "benchmarks/field.py", *(folder.resolve().name for folder in given.folders)]
    if given.weights:
        parts += ["--weights", *(Path(weights).name for weights in given.weights)]
    for variant in given.variant:
        parts += ["--variant", variant]
    return shlex.join(parts)


if __name__ == "__main__":
    sys.exit(main())
