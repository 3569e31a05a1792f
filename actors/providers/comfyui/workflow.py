"""A workflow: the file that ComfyUI's "Export (API)" writes, with our placeholders in its texts.

`"${input.0.file}"` is the name of an uploaded picture for a LoadImage node, `"${seed}"` and `"${count}"` are numbers.
A workflow that says nothing of `${count}` makes one picture and is run once for each; one that says nothing of
`${seed}` either makes the same one each time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.providers.common.template import BadTemplate, Lookup, Template, check, parse
from config.workflow_seeds import FixedSeed, fixed_seeds, repeats_itself, with_random_seeds

FORMS = ("file", "data_uri", "bytes")  # the last two for nodes that read base64


@dataclass(frozen=True)
class Workflow:
    """nodes: ids, in the file's order.  graph: the file.  fixed_seeds: those that are numbers.  repeats_itself: whether
    each run makes the same picture."""

    template: Template
    nodes: tuple[str, ...]
    graph: Mapping[str, Any]
    fixed_seeds: tuple[FixedSeed, ...] = ()
    repeats_itself: bool = False

    @property
    def makes_several(self) -> bool:
        """Whether one run makes as many pictures as are ordered."""
        names = {placeholder.name for placeholder in self.template.placeholders}
        return bool(names & {"count", "params.count"})

    @property
    def constants(self) -> list[tuple[str, str, str, str]]:
        """(node, its class, input, text) of every text of the file without a placeholder, and one ("", "") for each
        node."""
        found = []
        for node, each in self.graph.items():
            inputs = each.get("inputs")
            texts = inputs.items() if isinstance(inputs, dict) else []
            found.append((node, str(each["class_type"]), "", ""))
            found += [
                (node, str(each["class_type"]), name, text)
                for name, text in texts
                if isinstance(text, str) and not parse(text).placeholders
            ]
        return found

    def render(self, lookup: Lookup) -> dict[str, Any]:
        """The graph as the server takes it."""
        rendered: dict[str, Any] = self.template.render(lookup)
        return rendered


def read_workflow(path: str, secrets: Mapping[str, str], *, randomises: bool = False) -> Workflow:
    """randomises: fixed seeds are replaced by ours.  Raises BadTemplate with a sentence about the file."""
    try:
        graph = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise BadTemplate(f"{path!r} can't be read ({error.strerror})") from None
    except ValueError as error:
        raise BadTemplate(f"{path!r} is not valid JSON: {error}") from None
    nodes = graph.values() if isinstance(graph, dict) else []
    if not nodes or not all(isinstance(node, dict) and "class_type" in node for node in nodes):
        raise BadTemplate(f"{path!r} is no workflow in API format; export it with ComfyUI's 'Export (API)'")
    if randomises:
        graph = with_random_seeds(graph)
    template = parse(graph)
    check(template.placeholders, secrets=secrets, input_forms=FORMS)
    return Workflow(template, tuple(graph), graph, tuple(fixed_seeds(graph)), repeats_itself(graph))
