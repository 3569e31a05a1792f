"""Types that need a GPU beside types that don't: two dispatchers, two workers of which one offers it, on each database.

alike: the wait of plain tasks beside tasks that need the GPU, and in the same run without them. killed: the same while
the dispatchers are killed in turn. absent: the GPU's worker is killed; the seconds until `/ops` says so, and until its
task has run again. The service itself reports whether two tasks had the GPU at once; the rows are not asked.
"""

from __future__ import annotations

import statistics

from tests.support.houses.gpu_house import gpu_house

TASKS = 200


def run() -> dict[str, object]:
    """{what: figures}."""
    figures: dict[str, object] = {}
    for kind in ("sqlite", "postgresql"):
        with gpu_house(kind) as without:
            alone = without.plain_waits(TASKS, with_gpu=False)
        with gpu_house(kind) as beside:
            mixed = beside.plain_waits(TASKS, with_gpu=True)
            at_once = beside.most_at_once()
        with gpu_house(kind) as troubled:
            troubled.plain_waits(TASKS, with_gpu=True, kills=True)
            at_once_killed = troubled.most_at_once()
        with gpu_house(kind) as absent:
            said, again = absent.lose_the_gpu()
        figures |= {
            f"{kind}: plain tasks' wait p95, alone and beside GPU tasks (ratio)": (
                f"{p95(alone):.2f} s, {p95(mixed):.2f} s ({p95(mixed) / p95(alone):.2f})"
            ),
            f"{kind}: GPU tasks at once, at most": at_once,
            f"{kind}: the same with dispatchers killed in turn": at_once_killed,
            f"{kind}: GPU worker killed: said on /ops after, its task runs after its return": (
                f"{said:.1f} s, {again:.1f} s"
            ),
        }
    return figures


def p95(waits: list[float]) -> float:
    """Of at least two."""
    return statistics.quantiles(waits, n=20)[-1]
