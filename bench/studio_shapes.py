"""The studio's pictures of photos of all shapes and group sizes, as a sheet to look at, and their cost.

    python -m bench.studio_shapes sheet SHEET.png [--code CHECKOUT] [--photos FOLDER]
    python -m bench.studio_shapes cost --code OTHER_CHECKOUT

Sixteen photos are made from the sample portrait; `--photos` shows a folder's own in their place.  A row has the photo,
two pictures of a photography, and one of a fitting, or the refusal.  `--code` takes the studio of another checkout, so
two versions can be compared.  `cost` makes the ordinary square portrait by turns with both, each in a process of its
own that has warmed up, and gives CPU seconds (other load on the machine changes those least), their ratio and the
peak of memory.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from PIL import Image, ImageDraw, ImageOps

HERE = Path(__file__).parent.parent
SAMPLES = HERE / "examples" / "samples"
CELL, LABEL, SIZE = 220, 16, 640
GROUND = (196, 200, 204)
ROUNDS = 7
Piece = tuple[bool, int, int, int]  # mirrored, side, x, y
SHAPES: dict[str, tuple[tuple[int, int], tuple[Piece, ...]]] = {
    "square": ((512, 512), ((False, 512, 0, 0),)),
    "two side by side, 2:1": ((1024, 512), ((False, 512, 0, 0), (True, 512, 512, 0))),
    "bottom of 9:20": ((512, 1138), ((False, 512, 0, 626),)),
    "three in a row, 3:1": ((1536, 512), ((False, 512, 0, 0), (True, 512, 512, 0), (False, 512, 1024, 0))),
    "middle of 2:1": ((1024, 512), ((False, 512, 256, 0),)),
    "middle of 16:9": ((910, 512), ((False, 512, 199, 0),)),
    "middle of 3:1": ((1536, 512), ((False, 512, 512, 0),)),
    "bottom of 9:16": ((512, 910), ((False, 512, 0, 398),)),
    "bottom of 3:4": ((600, 800), ((False, 560, 20, 240),)),
    "two in 3:2": ((1200, 800), ((False, 560, 20, 240), (True, 560, 620, 240))),
    "two in a square": ((1024, 1024), ((False, 512, 0, 512), (True, 512, 512, 512))),
    "two overlapping, 4:3": ((1024, 768), ((False, 600, 0, 168), (True, 600, 424, 168))),
    "four in a row, 3:1": ((1536, 512), tuple((n % 2 == 1, 384, 384 * n, 128) for n in range(4))),
    "half of a square": ((1024, 1024), ((False, 512, 256, 512),)),
    "third of a square": ((1024, 1024), ((False, 341, 560, 683),)),
    "quarter of a square": ((1024, 1024), ((False, 256, 120, 768),)),
}  # fmt: skip


@click.group()
def main() -> None:
    """Photos of all shapes through the studio."""


@main.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--code", type=click.Path(exists=True, path_type=Path), default=HERE)
@click.option("--photos", type=click.Path(exists=True, path_type=Path))
def sheet(target: Path, code: Path, photos: Path | None) -> None:
    """Draw the sheet."""
    sys.path.insert(0, str(code))
    with tempfile.TemporaryDirectory() as folder:
        files = sorted(photos.iterdir()) if photos else list(_made(Path(folder)))
        rows = [_row(file, Path(folder) / f"out-{n}") for n, file in enumerate(files)]
    half = (len(rows) + 1) // 2
    drawn = Image.new("RGB", (8 * CELL, half * (CELL + LABEL)), "white")
    for n, (name, cells) in enumerate(rows):
        left, top = n // half * 4 * CELL, n % half * (CELL + LABEL)
        ImageDraw.Draw(drawn).text((left + 2, top + 2), name, "black")
        for column, cell in enumerate(cells):
            _put(drawn, cell, left + column * CELL, top + LABEL)
    drawn.save(target)


def _made(folder: Path) -> Iterator[Path]:
    """The photos of SHAPES, as files named after their shapes."""
    portrait = Image.open(SAMPLES / "portrait.png").convert("RGB")
    for n, (name, (size, pieces)) in enumerate(SHAPES.items()):
        photo = Image.new("RGB", size, GROUND)
        for mirrored, side, x, y in pieces:
            piece = ImageOps.mirror(portrait) if mirrored else portrait
            photo.paste(piece.resize((side, side), Image.Resampling.LANCZOS), (x, y))
        path = folder / f"{n:02} {name.replace(':', '-')}.png"
        photo.save(path)
        yield path


def _row(photo: Path, out: Path) -> tuple[str, list[Image.Image | str]]:
    cells: list[Image.Image | str] = [ImageOps.exif_transpose(Image.open(photo)).convert("RGB")]
    cells += _pictures("photography", photo, out / "photography", [0, 1])
    cells += _pictures("fitting", photo, out / "fitting", [0])
    return photo.stem, cells


def _pictures(task: str, photo: Path, out: Path, wanted: list[int]) -> list[Image.Image | str]:
    """The pictures of an order, or for each of them the code of its refusal."""
    try:
        made = make(task, photo, out, pictures=wanted, count=2, size=SIZE)
    except Exception as fault:
        if not hasattr(fault, "code"):
            raise
        return [str(fault.code)] * len(wanted)
    return [Image.open(path).convert("RGB") for path in made]


def make(task: str, photo: Path, out: Path, **changes: Any) -> list[Path]:
    """The files of an order, made by the studio that is first on the path."""
    from actors.providers.studio.fitting.fitting import fit
    from actors.providers.studio.orders.order import read_order
    from actors.providers.studio.photography.photography import photograph

    request = {"task": task, "person": str(photo), "seed": 4, "scene": "sunset", "out": str(out)}
    if task == "fitting":
        request["garment"] = str(SAMPLES / "garment.png")
    carry_out = fit if task == "fitting" else photograph
    return [made.path for made in carry_out(read_order(request | changes), lambda percent, stage: None)]


def _put(drawn: Image.Image, cell: Image.Image | str, x: int, y: int) -> None:
    if isinstance(cell, str):
        ImageDraw.Draw(drawn).text((x + 8, y + CELL // 2), cell, "red")
        return
    cell.thumbnail((CELL - 4, CELL - 4))
    drawn.paste(cell, (x, y))


@main.command()
@click.option("--code", type=click.Path(exists=True, path_type=Path), required=True)
def cost(code: Path) -> None:
    """Compare this checkout's studio with another's."""
    for task in ("photography", "fitting"):
        children = {"other": _child(code, task), "this": _child(HERE, task)}
        seconds: dict[str, list[float]] = {name: [] for name in children}
        peak = dict.fromkeys(children, 0)
        for _ in range(ROUNDS):
            for name, child in children.items():
                assert child.stdin is not None and child.stdout is not None
                child.stdin.write("\n")
                child.stdin.flush()
                answer = json.loads(child.stdout.readline())
                seconds[name].append(answer["seconds"])
                peak[name] = answer["peak_mib"]
        for child in children.values():
            child.communicate()
        middle = {name: statistics.median(values) for name, values in seconds.items()}
        print(f"{task}: other {middle['other']:.2f} s, {peak['other']} MiB; this {middle['this']:.2f} s, "
              f"{peak['this']} MiB; ratio {middle['this'] / middle['other']:.2f}")  # fmt: skip


def _child(code: Path, task: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "turns", task, "--code", str(code)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=code)


@main.command(hidden=True)
@click.argument("task")
@click.option("--code", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--photo", type=click.Path(exists=True, path_type=Path), default=SAMPLES / "portrait.png")
def turns(task: str, code: Path, photo: Path) -> None:
    """Make the photo's picture once for each line of stdin."""
    sys.path.insert(0, str(code))
    with tempfile.TemporaryDirectory() as folder:
        make(task, photo, Path(folder))
        for _ in sys.stdin:
            begun = time.process_time()
            make(task, photo, Path(folder))
            spent = time.process_time() - begun
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(json.dumps({"seconds": spent, "peak_mib": peak}), flush=True)


if __name__ == "__main__":
    main()
