"""Whether a ComfyUI workflow makes a different picture at each run, judged by its seeds.

A workflow without `${seed}` and without `${count}` makes the same picture again and again, and each run costs as much
as the first.  Admission, the warning at the start, and the adapter use this module.  An unreadable file is no error
here: the adapter reports it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED = "${seed}"
_SEED_INPUTS = ("seed", "noise_seed")
_OTHER_EACH_TIME = (SEED, "${count}", "${params.count}")


@dataclass(frozen=True)
class FixedSeed:
    """A seed that is a number.  node: its id, kind: its class, input: the name that the seed has there."""

    node: str
    kind: str
    input: str

    def __str__(self) -> str:
        return f'write "{self.input}": "{SEED}" in node {self.node} ({self.kind})'


def fixed_seeds(graph: Any) -> Iterator[FixedSeed]:
    """The fixed seeds of a workflow in API format, in its order."""
    for node, of_node in graph.items() if isinstance(graph, Mapping) else ():
        inputs = of_node.get("inputs") if isinstance(of_node, Mapping) else None
        for name in _SEED_INPUTS:
            value = inputs.get(name) if isinstance(inputs, Mapping) else None
            if isinstance(value, int) and not isinstance(value, bool):
                yield FixedSeed(str(node), str(of_node.get("class_type", "?")), name)


def with_random_seeds(graph: Any) -> Any:
    """The workflow with our seed in place of each fixed one."""
    for seed in list(fixed_seeds(graph)):
        graph[seed.node]["inputs"][seed.input] = SEED
    return graph


def repeats_itself(graph: Any) -> bool:
    """Whether each run of the workflow makes the same picture."""
    text = json.dumps(graph, ensure_ascii=False)
    return not any(placeholder in text for placeholder in _OTHER_EACH_TIME)


@functools.cache
def file_repeats_itself(path: str, *, randomises: bool) -> bool:
    """The same for a file; False if it can't be read."""
    try:
        graph = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return repeats_itself(with_random_seeds(graph) if randomises else graph)
