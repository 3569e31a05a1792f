"""A subset of JSONPath (RFC 9535): places in an answer.  Pure.

`$` is the whole answer; then any number of `.name`, `['any name']`, `[0]`, `[-1]`, and `[*]` or `.*` for every member.
A path without a target finds nothing, which is no error.  If it leads into a text that is JSON itself, it continues
inside that JSON: models return such texts, and gateways wrap a service's whole answer in one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_STEP = re.compile(
    r"\.(?P<name>[A-Za-z_\u0080-\U0010ffff][\w\-]*)"
    r"|\[\s*(?P<index>-?\d{1,9})\s*\]"
    r"|\[\s*'(?P<single>[^']*)'\s*\]"
    r'|\[\s*"(?P<double>[^"]*)"\s*\]'
    r"|(?P<every>\[\s*\*\s*\]|\.\*)"
)


class BadPath(ValueError):
    """The text is not a path of this subset; str() is a sentence."""


@dataclass(frozen=True)
class _Every:
    """Each member of a list or object."""


Step = str | int | _Every


@dataclass(frozen=True)
class Path:
    """A parsed path.  str() is its text."""

    text: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return self.text

    def find(self, document: Any) -> list[Any]:
        """Every value at the path, in the document's order."""
        found = [document]
        for step in self.steps:
            found = [value for each in found for value in _members(each, step)]
        return found


def parse_path(text: str) -> Path:
    """Raises BadPath."""
    if not text.startswith("$"):
        raise BadPath(f"{text!r} is no path: it begins with '$', such as $.data[*].url")
    steps: list[Step] = []
    end = 1
    while end < len(text):
        found = _STEP.match(text, end)
        if found is None:
            raise BadPath(
                f"{text!r} is no path: {text[end:]!r} is none of .name, ['name'], [0], [*]; such as $.data[*].url"
            )
        steps.append(_step(found))
        end = found.end()
    return Path(text, tuple(steps))


def _step(found: re.Match[str]) -> Step:
    if found["index"] is not None:
        return int(found["index"])
    if found["every"] is not None:
        return _Every()
    return next(found[group] for group in ("name", "single", "double") if found[group] is not None)


def _members(value: Any, step: Step) -> Iterator[Any]:
    if isinstance(value, str):
        value = _unfolded(value)
    if isinstance(step, _Every):
        yield from value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    elif isinstance(step, str):
        if isinstance(value, dict) and step in value:
            yield value[step]
    elif isinstance(value, list) and -len(value) <= step < len(value):
        yield value[step]


def _unfolded(text: str) -> Any:
    """The list or object in a JSON text; None for every other text."""
    if not text[:64].lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
