"""An older build and this one by turns, in one run: `make bench ARGS="against OLD=<commit>"`.

Each turn is a whole `darkroom up` of one build with an empty database of its own.  Only ratios
count: other load on the machine moves both builds' figures together.  PARTS=work or PARTS=idle measures only how fast
work is done (`bench.against_turn`), or only what doing nothing costs (`bench.idle_turn`).  PARTS=remote measures what
polls of remote jobs cost (`bench.remote_turn`), and only then: it takes minutes.  PARTS=feed measures how soon an
event-stream client sees a commit (`bench.feed_turn`).  TURNS is the number of turns of each build.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.peers.running import new_database
from bench.postgres_server import postgres_server
from tests.support.running_system import REPOSITORY

TURNS = int(os.environ.get("BENCH_TURNS", "3"))
OLD, KINDS, PARTS = "BENCH_OLD", "BENCH_KINDS", "BENCH_PARTS"
PROGRAMS = {
    "work": "against_turn.py",
    "idle": "idle_turn.py",
    "remote": "remote_turn.py",
    "feed": "feed_turn.py",
}
PARTS_UNSAID = "work,idle"

Turns = dict[str, list[dict[str, float]]]


def run() -> dict[str, str]:
    """{what: the medians of both builds' turns, and their ratio}."""
    old = os.environ.get(OLD)
    if not old:
        raise SystemExit('Say which build is the older one: make bench ARGS="against OLD=<commit>".')
    shown: dict[str, str] = {}
    with tree_of(old) as tree, postgres_server() as server:
        for kind in os.environ.get(KINDS, "sqlite,postgresql").split(","):
            turns: Turns = {"old": [], "new": []}
            for turn in range(TURNS):
                for build, folder in (("old", tree), ("new", REPOSITORY)):
                    found: dict[str, float] = {}
                    for part in os.environ.get(PARTS, PARTS_UNSAID).split(","):
                        name = f"{part}_{build}_{turn}"
                        url = new_database(server, name) if kind == "postgresql" else kind
                        found |= _turn(folder, PROGRAMS[part], url)
                    turns[build].append(found)
            shown |= {f"{kind}: {what}": figures for what, figures in _ratios(turns)}
    return shown


def _ratios(turns: Turns) -> Iterator[tuple[str, str]]:
    for what in turns["new"][0]:
        old, new = (statistics.median(turn[what] for turn in turns[build]) for build in ("old", "new"))
        each = " ".join(
            f"{before[what]:.3g}→{after[what]:.3g}"
            for before, after in zip(turns["old"], turns["new"], strict=True)
        )
        ratio = f"{new / old:.2f} ×" if old else "–"
        yield what, f"{old:.3g} → {new:.3g}: {ratio} (turns: {each})"


def _turn(tree: Path, program: str, url: str) -> dict[str, float]:
    environ = {**os.environ, "PYTHONPATH": str(tree)}
    said = subprocess.run(
        [sys.executable, "-P", REPOSITORY / "bench" / program, url],
        env=environ,
        cwd=tree,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    found: dict[str, float] = json.loads(said)
    return found


@contextlib.contextmanager
def tree_of(commit: str) -> Iterator[Path]:
    """The files of a commit, until the block ends."""
    git = ("git", "-C", str(REPOSITORY))
    with tempfile.TemporaryDirectory(prefix="dr-old-") as folder:
        tree = Path(folder) / "tree"
        subprocess.run([*git, "worktree", "add", "--detach", str(tree), commit], check=True)
        entry = tree / "supervisor" / "cli" / "main.py"
        if not entry.exists():  # an older build kept its entry in the package itself
            entry.write_text("from supervisor.cli import main as main\n")
        try:
            yield tree
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(tree)], check=True)
