"""The expressions in a step's declaration: `${params.prompt}`, `${steps.cut_out.images.0}`, `${each}`.  Pure.

Only the text of a declaration has expressions; `supervisor.steps.step_orders` gives them their values.  `$${` is a
plain `${`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_WRITTEN = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
FILE_KINDS = ("images", "videos", "audio", "files")
MADE_KINDS = ("images", "files")
OF_AN_ORDER = ("prompt", "sceneId", "count")
MAY_BE = (
    "${params.prompt}, ${params.sceneId}, ${params.count}, ${params.parameters.NAME}, ${params.images}, "
    "${params.images.N} (videos, audio and files too), ${steps.NAME.images}, ${steps.NAME.images.N} (files too), "
    "${steps.NAME.data} with names behind it, and ${each} with names behind it in a step with FOR_EACH"
)


class BadExpression(ValueError):
    """str() is the rest of a sentence about the text that holds it."""


@dataclass(frozen=True)
class Expression:
    """One expression.  names: the words between its full stops; the first is `params`, `steps` or `each`."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"${{{'.'.join(self.names)}}}"

    @property
    def step(self) -> str | None:
        """The name of the step whose results it means, or None."""
        return self.names[1] if self.names[0] == "steps" else None

    @property
    def made(self) -> str | None:
        """The kind of that step's results: images, files or data; None for another expression."""
        return self.names[2] if self.names[0] == "steps" else None

    @property
    def parameter(self) -> str | None:
        """The member of the order's `parameters` that it means, or None."""
        return self.names[2] if self.names[:2] == ("params", "parameters") else None

    @property
    def inputs(self) -> str | None:
        """The kind of the order's inputs that it means, or None."""
        return self.names[1] if self.names[0] == "params" and self.names[1] in FILE_KINDS else None

    @property
    def place(self) -> int | None:
        """The number of the one file that it means; None if it means all files, or none."""
        files = self.inputs is not None or self.made in MADE_KINDS
        return int(self.names[-1]) if files and self.names[-1].isdigit() else None

    @property
    def is_each(self) -> bool:
        """Whether it means the present value of a `for_each`, or a part of that value."""
        return self.names[0] == "each"

    @property
    def is_of_files(self) -> bool:
        """Whether it means files.  Not known for `${each}`: there it depends on the step's `for_each`."""
        return self.inputs is not None or self.made in MADE_KINDS

    @property
    def is_a_list_of_files(self) -> bool:
        return self.is_of_files and self.place is None


def expressions_in(text: str) -> list[Expression]:
    """Every expression in a text.  Raises BadExpression for one that does not exist."""
    found = []
    for match in _WRITTEN.finditer(text):
        if match[0] == "$${":
            continue
        if match[1] is None:
            raise BadExpression(f"opens an expression that has no end: {text!r}")
        found.append(_read(match[1]))
    return found


def whole(text: str) -> Expression | None:
    """The expression that is all of a text; None for other text.  Raises BadExpression."""
    match = _WRITTEN.fullmatch(text)
    return _read(match[1]) if match and match[1] is not None else None


def _read(written: str) -> Expression:
    names = tuple(written.split("."))
    match names:
        case ("each", *members) if all(members):
            pass
        case ("params", name) if name in (*OF_AN_ORDER, *FILE_KINDS):
            pass
        case ("params", kind, number) if kind in FILE_KINDS and _is_place(number):
            pass
        case ("params", "parameters", *members) if members and all(members):
            pass
        case ("steps", name, kind) if name and kind in MADE_KINDS:
            pass
        case ("steps", name, kind, number) if name and kind in MADE_KINDS and _is_place(number):
            pass
        case ("steps", name, "data", *members) if name and all(members):
            pass
        case _:
            raise BadExpression(f"has ${{{written}}}, but an expression may be {MAY_BE}")
    return Expression(names)


def _is_place(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 2


def texts_in(value: Any) -> Iterator[str]:
    """Every text of a JSON-like value, except the names of members."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from texts_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts_in(each)
