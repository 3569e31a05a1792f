"""A task's results besides pictures: stored with keys, shown with links.  Pure.

The stored form is `{"files": [{"key", "media_type", "bytes", "name", …}], "data": …, "data_key": …}`.  Data that is
larger than MOST_INLINE_BYTES is only in an object of the store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MOST_DATA_BYTES = 262_144
MOST_INLINE_BYTES = 16_384

Outputs = Mapping[str, Any]


def data_bytes(data: Any) -> bytes:
    """The data as JSON.  data: as `plain_data` gives it."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def with_outputs(doc: Mapping[str, Any], link: Callable[[str], str]) -> dict[str, Any]:
    """The document with `files` and `data` in place of its `outputs`; unchanged if it has none.

    `data` is null if it is large; then `data_url` links to it.
    """
    if "outputs" not in doc:
        return dict(doc)
    shown = {name: value for name, value in doc.items() if name != "outputs"}
    outputs = doc["outputs"]
    if outputs:
        shown["files"] = [_file(each, link) for each in outputs.get("files", [])]
        shown["data"] = outputs.get("data")
        if outputs.get("data_key"):
            shown["data_url"] = link(outputs["data_key"])
    return shown


def keys_of_outputs(outputs: Outputs | None) -> Iterator[str]:
    """The keys of all files that they name."""
    for each in (outputs or {}).get("files", []):
        yield each["key"]
    if outputs and outputs.get("data_key"):
        yield outputs["data_key"]


def _file(stored: Mapping[str, Any], link: Callable[[str], str]) -> dict[str, Any]:
    return {"url": link(stored["key"]), **{name: value for name, value in stored.items() if name != "key"}}
