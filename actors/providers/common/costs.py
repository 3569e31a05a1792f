"""The place of a cost in a service's answer, and its value.  Pure.

`cost = "$.usage.cost"` is a path into the answer; `cost = "header:x-litellm-response-cost"` names a header.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.providers.common.paths import BadPath, Path, parse_path
from supervisor.remote.amounts import amount_of

_HEADER = re.compile(r"header:\s*([A-Za-z0-9-]{1,100})")


@dataclass(frozen=True)
class CostPlace:
    """A path into the answer, or the lower-case name of a header; one of the two."""

    path: Path | None = None
    header: str = ""

    def cost_in(self, headers: Mapping[str, str], body: bytes, document: Any) -> str | None:
        """The cost in an answer, as it is written there; None without one.

        document: the body's JSON, or, for a stream without a body, the JSON that was read from it.
        """
        if self.path is None:
            return amount_of(headers.get(self.header))
        found = self.path.find(_as_written(body) if body else document)
        return next((amount for value in found if (amount := amount_of(value)) is not None), None)


def parse_cost_place(text: str) -> CostPlace:
    """Raises BadPath."""
    if text.startswith("$"):
        return CostPlace(parse_path(text))
    header = _HEADER.fullmatch(text)
    if header is None:
        raise BadPath(f"{text!r} is neither a path such as $.usage.cost nor header:NAME")
    return CostPlace(header=header[1].lower())


def _as_written(body: bytes) -> Any:
    """The answer with its numbers as texts, so that none is rounded."""
    try:
        return json.loads(body, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return None
