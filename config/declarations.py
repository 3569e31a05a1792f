"""The built-in task types: declarations, as TOML beside this file.

A table of the same name in the settings replaces only the members that it names.  `at.<kind>` holds members that
override the declaration's while the type may go to a provider of that kind; `sample` is a possible order.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FILE = Path(__file__).parent / "built_in_types.toml"
_NOT_OF_THE_TYPE = ("at", "sample")


def declared_types() -> tuple[str, ...]:
    """Names of the declared types, in the order in which they are shown."""
    return tuple(_declarations())


def samples() -> dict[str, dict[str, Any]]:
    """{type: params} of an order of each declared type; `images` are names of sample pictures."""
    return {name: dict(table["sample"]) for name, table in _declarations().items()}


def over_declaration(name: str, given: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, Any]:
    """The members of a type: the given ones override the declared ones.  kinds: {provider: kind} of all configured
    providers."""
    declaration = _declarations().get(name, {})
    declared = {key: value for key, value in declaration.items() if key not in _NOT_OF_THE_TYPE}
    for kind in sorted(_kinds_of(given, kinds)):
        declared |= declaration.get("at", {}).get(kind, {})
    return {**declared, **given}


def scenes_at(name: str, kinds: set[str]) -> tuple[str, list[str]] | None:
    """(kind, scenes) of a kind of provider with a fixed list of scenes for this type, if the type may go to one."""
    for kind, members in _declarations().get(name, {}).get("at", {}).items():
        if kind in kinds and members.get("scenes"):
            return kind, members["scenes"]
    return None


def _kinds_of(given: Mapping[str, Any], kinds: Mapping[str, str]) -> set[str]:
    """Kinds of the providers that get a type's orders as they are; wrong names are refused elsewhere."""
    if given.get("steps"):
        return set()  # each step says for itself what its provider is given
    names = [given.get("provider", "studio")]
    for several in (given.get("fallback"), given.get("allow_providers")):
        names += several if isinstance(several, list) else []
    return {kinds[each] for each in names if isinstance(each, str) and each in kinds}


@functools.cache
def _declarations() -> dict[str, dict[str, Any]]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))
