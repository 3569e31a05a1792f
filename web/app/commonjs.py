"""The CommonJS twin of an ES module that ends with one `export { … };`: made when web starts, so never outdated."""

from __future__ import annotations

import re

_EXPORT = re.compile(r"^export (\{[^{}]*\});$", re.MULTILINE)


def commonjs_twin(source: str) -> str:
    """The same module for `require`.  Raises ValueError unless the export is one list of names at the end."""
    found = _EXPORT.findall(source)
    if len(found) != 1 or len(re.findall(r"^(?:export|import)\b", source, re.MULTILINE)) != 1:
        raise ValueError("An ES module with one `export { names };` and no import can be made into CommonJS.")
    return '"use strict";\n' + _EXPORT.sub(r"module.exports = \1;", source)
