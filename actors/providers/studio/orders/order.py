"""An order: one request to an image child, checked before any work is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.providers.studio.orders.faults import BadOrder

TASKS = {
    "photography": 1,
    "fitting": 2,
    "cut_out": 1,
    "enlarge": 1,
}  # how many pictures each is made from at least
OF_EACH_INPUT = ("cut_out", "enlarge")  # picture n is made from input n
SCENES = ("studio", "sunset", "night")
MAX_COUNT = 8
DEFAULT_SIZE = 1024
MOST_PEOPLE = 12
FACTORS = (2, 4)


@dataclass(frozen=True)
class Order:
    """pictures: which of the `count` pictures to make, each 0 … count−1; picture n does not depend on the others.
    size: long side of the results in pixels.  wearer: the person of a group who wears a garment, counted from the left,
    from 1; None for the largest.  sources: every input, for what is made OF_EACH_INPUT: as many as `count`.
    factor: how many times as wide and as high an enlarged picture is."""

    task: str
    person: Path
    garment: Path | None
    scene: str
    count: int
    seed: int
    pictures: tuple[int, ...]
    out: Path
    size: int = DEFAULT_SIZE
    wearer: int | None = None
    sources: tuple[Path, ...] = ()
    factor: int = FACTORS[0]


def read_order(request: Mapping[str, Any]) -> Order:
    """The order in a request.  Raises BadOrder with a sentence that names the wrong field."""
    task = request.get("task")
    if task not in TASKS:
        raise BadOrder(f"task must be one of {', '.join(TASKS)}.")
    scene = request.get("scene") or SCENES[0]
    if task == "photography" and scene not in SCENES:
        raise BadOrder(f"scene must be one of {', '.join(SCENES)}.")
    if task == "fitting" and not request.get("garment"):
        raise BadOrder("fitting needs a second picture, the garment.")
    count = _whole_number(request, "count", default=1, low=1, high=MAX_COUNT)
    pictures = _pictures(request, count)
    return Order(
        task=task,
        person=_path(request, "person"),
        garment=_path(request, "garment") if request.get("garment") else None,
        scene=str(scene),
        count=count,
        seed=_whole_number(request, "seed", default=0, low=-(2**63), high=2**63 - 1) % 2**63,
        pictures=pictures,
        out=_path(request, "out"),
        size=_whole_number(request, "size", default=DEFAULT_SIZE, low=128, high=2048),
        wearer=_whole_number(request, "wearer", default=1, low=1, high=MOST_PEOPLE)
        if request.get("wearer") is not None
        else None,
        sources=_sources(request, count, pictures) if task in OF_EACH_INPUT else (),
        factor=_factor(request),
    )


def _sources(request: Mapping[str, Any], count: int, pictures: tuple[int, ...]) -> tuple[Path, ...]:
    """The inputs of pictures 0 … count−1.  A request for one picture may have its input alone: a step with `for_each`
    sends such requests."""
    sources = request.get("sources") or [request.get("person")]
    if not isinstance(sources, list) or not all(isinstance(each, str) and each for each in sources):
        raise BadOrder("sources must list paths.")
    if len(sources) == len(pictures) == 1:
        sources = sources * count
    if len(sources) != count:
        raise BadOrder(
            f"{request['task']} makes one picture of each input, so count must be {len(sources)} for "
            f"{_number(len(sources), 'input')}; it is {count}."
        )
    return tuple(map(Path, sources))


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _factor(request: Mapping[str, Any]) -> int:
    factor = request.get("factor")
    if factor is None:
        return FACTORS[0]
    if isinstance(factor, bool) or factor not in FACTORS:
        raise BadOrder(
            f"parameters.factor must be {' or '.join(map(str, FACTORS))}: how many times as large."
        )
    return int(factor)


def _path(request: Mapping[str, Any], field: str) -> Path:
    value = request.get(field)
    if not isinstance(value, str) or not value:
        raise BadOrder(f"{field} must be a path.")
    return Path(value)


def _whole_number(request: Mapping[str, Any], field: str, *, default: int, low: int, high: int) -> int:
    value = request.get(field)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadOrder(f"{field} must be a whole number from {low} to {high}.")
    return value


def _pictures(request: Mapping[str, Any], count: int) -> tuple[int, ...]:
    wanted = request.get("pictures")
    if wanted is None:
        return tuple(range(count))
    if (
        not isinstance(wanted, list)
        or not wanted
        or not all(type(n) is int and 0 <= n < count for n in wanted)
    ):
        raise BadOrder(f"pictures must list whole numbers from 0 to {count - 1}.")
    return tuple(sorted(set(wanted)))
