"""A page's script as one file, so that one request brings it: its modules, each imported one in a function of its own.

The modules stay files that a browser can load one by one.  Comments that have lines of their own are left out: they are
a fifth of what would be sent.  What this can't translate is refused, so a page never gets a half of its script.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_IMPORT = re.compile(r'^import (?:\{([^{}]*)\}|\* as (\w+)) from "\./([\w.-]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
_EXPORTS = re.compile(r"^export \{([^{}]*)\};\n?", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*(?://.*|/\*(?:[^*]|\*(?!/))*\*/)[ \t]*\n", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def joined(name: str, modules: Mapping[str, str]) -> str:
    """The script of this name with everything that it imports.  modules: {name: source}.

    Raises ValueError for a way of importing or exporting that is unknown here, and for modules that import each other.
    """
    parts: list[str] = []
    _join(name, modules, parts, [])
    return "".join(parts)


def without_comments(source: str) -> str:
    """The source without the comments that have lines of their own.  A text of several lines may hold none of them."""
    return _COMMENT.sub("", source)


def _join(name: str, modules: Mapping[str, str], parts: list[str], above: list[str]) -> None:
    if name in above:
        raise ValueError(f"{' → '.join([*above, name])}: these modules import each other.")
    source = without_comments(modules[name])
    for _, _, imported in _IMPORT.findall(source):
        if not any(part.startswith(f"const {_variable(imported)} ") for part in parts):
            _join(imported, modules, parts, [*above, name])
    parts.append(_function(name, source) if above else _plain(name, source)[0])


def _function(name: str, source: str) -> str:
    body, exported = _plain(name, source)
    return f"const {_variable(name)} = (() => {{\n{body}return {{ {', '.join(exported)} }};\n}})();\n"


def _plain(name: str, source: str) -> tuple[str, list[str]]:
    """(the code of a module without its imports and exports, the names that it exports)."""
    exported = _EXPORT.findall(source)
    for names in _EXPORTS.findall(source):
        exported += [each.strip() for each in names.split(",") if each.strip()]
    body = _EXPORTS.sub("", _EXPORT.sub("", _IMPORT.sub(_taken, source)))
    if left := _LEFT.search(body):
        raise ValueError(f"{name}: '{left[0]}' can't be put into one file with other modules.")
    return body, exported


def _taken(found: re.Match[str]) -> str:
    names, whole, imported = found.groups()
    if names and " as " in names:
        raise ValueError(f"'{found[0].strip()}' gives another name to what it imports.")
    return f"const {whole or '{' + names + '}'} = {_variable(imported)};\n"


def _variable(name: str) -> str:
    return "m_" + re.sub(r"\W", "_", name.removesuffix(".js"))
