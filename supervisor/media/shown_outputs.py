"""What a task has made besides pictures: stored with keys, shown with links.  Pure.

Stored it is `{"files": [{"key", "media_type", "bytes", "name", …}], "data": …, "data_key": …}`: data that is larger
than MOST_INLINE_BYTES stands in an object of the store alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MOST_DATA_BYTES = 262_144
MOST_INLINE_BYTES = 16_384

Outputs = Mapping[str, Any]


def data_bytes(data: Any) -> bytes:
    """The data as JSON.  Raises ValueError for what is none."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def with_outputs(doc: Mapping[str, Any], link: Callable[[str], str]) -> dict[str, Any]:
    """The document with `files` and `data` in place of its `outputs`; as it is where there are none.

    `data` is null where it is large: `data_url` says where it is.
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
    """Of every file that they name."""
    for each in (outputs or {}).get("files", []):
        yield each["key"]
    if outputs and outputs.get("data_key"):
        yield outputs["data_key"]


def _file(stored: Mapping[str, Any], link: Callable[[str], str]) -> dict[str, Any]:
    return {"url": link(stored["key"]), **{name: value for name, value in stored.items() if name != "key"}}
