"""Templates of requests: JSON-like values with placeholders such as `${params.prompt}`.  Pure.

A string that is one placeholder and nothing else becomes the placeholder's value, with its type: `"${params.count}"` is
a number.  Inside other text a placeholder becomes text: booleans as JSON writes them, objects as JSON, pictures in
base64.  A placeholder without a value (an optional parameter that was not given) is left out of its object or list, and
is empty inside text.  `$${` is a plain `${`.

| placeholder | value |
|---|---|
| `${task_id}` `${reference}` | the task; this request, unique, the same as in our evidence of it |
| `${count}` `${seed}` | how many pictures are to be made now; a number that is the same for every attempt |
| `${params.NAME…}` | the task's params; names and list indexes joined by full stops |
| `${input.N.url}` `.data_uri` `.bytes` | picture N of the task, from 0: a signed link, a data: URI, the file itself |
| `${input.N.file}` | the name under which picture N was uploaded to the service |
| `${secret.NAME}` | one of the provider's secrets |
| `${callback_url}` | where the service may report on this request |
| `${traceparent}` | the W3C context of this request in its task's trace; none without tracing |
| `${id}` `${kept.NAME}` | the service's own id of a job; what else was kept of its first answer |

Names in `constants`, such as `${model}`, belong to the settings: they are filled in when the template is read.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_PLAIN_NAMES = frozenset({"task_id", "reference", "count", "seed", "id", "callback_url", "traceparent"})
_INPUT = re.compile(r"input\.(\d{1,2})\.(url|data_uri|bytes|file)")
_PARAMS = re.compile(r"params(\.[^.]+)+")
_SECRET = re.compile(r"secret\.([A-Za-z0-9_]+)")
_KEPT = re.compile(r"kept\.([A-Za-z0-9_]+)")
_NAMES = (
    "task_id, reference, count, seed, model, params.NAME, input.N.url, input.N.data_uri, input.N.bytes, input.N.file, "
    "secret.NAME, callback_url, traceparent, id and kept.NAME"
)

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING", "__bool__": lambda self: False})()


class BadTemplate(ValueError):
    """The template is wrong; str() is a sentence that names the placeholder."""


class MissingSecret(BadTemplate):
    """A secret that is not set.  secret: its name."""

    def __init__(self, secret: str) -> None:
        super().__init__(f"${{secret.{secret}}} is not set")
        self.secret = secret


@dataclass(frozen=True)
class Placeholder:
    """A name such as `input.0.url`."""

    name: str

    def __str__(self) -> str:
        return f"${{{self.name}}}"

    @property
    def input(self) -> tuple[int, str] | None:
        """(number of the picture, url | data_uri | bytes | file), or None."""
        found = _INPUT.fullmatch(self.name)
        return (int(found[1]), found[2]) if found else None

    @property
    def secret(self) -> str | None:
        """The secret's name, or None."""
        found = _SECRET.fullmatch(self.name)
        return found[1] if found else None

    @property
    def kept(self) -> str | None:
        """The name of the kept value, or None."""
        found = _KEPT.fullmatch(self.name)
        return found[1] if found else None


@dataclass(frozen=True)
class InputPicture:
    """A picture as a file.  type: as in `image/jpeg`; name: a file name for it."""

    data: bytes
    type: str
    name: str


@dataclass(frozen=True)
class _Text:
    parts: tuple[str | Placeholder, ...]


Lookup = Callable[[Placeholder], Any]


@dataclass(frozen=True)
class Template:
    """A parsed value; `_Text` wherever a string holds a placeholder."""

    value: Any

    @property
    def placeholders(self) -> frozenset[Placeholder]:
        """Every placeholder in it."""
        return frozenset(_placeholders(self.value))

    def render(self, lookup: Lookup, *, quote: Callable[[str], str] = str) -> Any:
        """The value with every placeholder filled in; MISSING if it is one placeholder without a value.

        quote: applied to the text of placeholders inside other text.
        """
        return _rendered(self.value, lookup, quote)


def parse(value: Any, constants: Mapping[str, str] | None = None) -> Template:
    """The template of a JSON-like value.  Raises BadTemplate for a wrong placeholder."""
    return Template(_parsed(value, constants or {}))


def check(
    placeholders: Collection[Placeholder],
    *,
    secrets: Collection[str],
    without: Collection[str] = ("id", "callback_url", "traceparent"),
    input_forms: Collection[str] = ("url", "data_uri", "bytes"),
    kept: Collection[str] = (),
) -> None:
    """Raises BadTemplate for a secret that is not set, and for a placeholder without a value here.

    without: plain names; input_forms: the allowed ones of url, data_uri, bytes, file; kept: names of kept values.
    """
    for placeholder in sorted(placeholders, key=str):
        known_input = placeholder.input is None or placeholder.input[1] in input_forms
        known_kept = placeholder.kept is None or placeholder.kept in kept
        if placeholder.name in without or not known_input or not known_kept:
            raise BadTemplate(f"{placeholder} has no value here")
        if placeholder.secret is not None and placeholder.secret not in secrets:
            raise MissingSecret(placeholder.secret)


def param(params: Mapping[str, Any], placeholder: Placeholder) -> Any:
    """The value of `${params.…}`; MISSING when there is none."""
    found: Any = params
    for part in placeholder.name.split(".")[1:]:
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            return MISSING
    return found


def as_text(value: Any) -> str:
    """A value as text inside text."""
    if value is MISSING or value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, InputPicture):
        return base64.b64encode(value.data).decode()
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _parsed(value: Any, constants: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _parsed_text(value, constants)
    if isinstance(value, Mapping):
        return {str(key): _parsed(entry, constants) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_parsed(entry, constants) for entry in value]
    return value


def _parsed_text(text: str, constants: Mapping[str, str]) -> str | _Text:
    parts: list[str | Placeholder] = []
    end = 0
    for found in _PLACEHOLDER.finditer(text):
        parts.append(text[end : found.start()])
        end = found.end()
        if found[0] == "$${":
            parts.append("${")
        elif found[1] is None:
            raise BadTemplate(f"a '${{' in {_short(text)} is not closed; write '$${{' for the characters")
        elif found[1].strip() in constants:
            parts.append(constants[found[1].strip()])
        else:
            parts.append(_known(found[1].strip()))
    parts.append(text[end:])
    if any(isinstance(part, Placeholder) for part in parts):
        return _Text(tuple(part for part in parts if part != ""))
    return "".join(str(part) for part in parts)


def _known(name: str) -> Placeholder:
    patterns = (_INPUT, _PARAMS, _SECRET, _KEPT)
    if name in _PLAIN_NAMES or any(pattern.fullmatch(name) for pattern in patterns):
        return Placeholder(name)
    raise BadTemplate(f"${{{_short(name)}}} is no placeholder; there are {_NAMES}")


def _placeholders(value: Any) -> Iterator[Placeholder]:
    if isinstance(value, _Text):
        yield from (part for part in value.parts if isinstance(part, Placeholder))
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _placeholders(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _placeholders(entry)


def _rendered(value: Any, lookup: Lookup, quote: Callable[[str], str]) -> Any:
    if isinstance(value, _Text):
        first = value.parts[0]
        if len(value.parts) == 1 and isinstance(first, Placeholder):
            return lookup(first)
        return "".join(
            quote(as_text(lookup(part))) if isinstance(part, Placeholder) else part for part in value.parts
        )
    if isinstance(value, dict):
        entries = ((key, _rendered(entry, lookup, quote)) for key, entry in value.items())
        return {key: entry for key, entry in entries if entry is not MISSING}
    if isinstance(value, list):
        return [entry for entry in (_rendered(each, lookup, quote) for each in value) if entry is not MISSING]
    return value


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"
