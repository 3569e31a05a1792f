"""What an order is made from: an upload's id, an https address, or something that is uploaded first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from darkroom_client.models import Upload

# A text is an address, an id, or else the path of a file.  An id has neither a point nor a slash in it.
Source = str | Path | bytes | bytearray | memoryview | BinaryIO | Upload
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
DEFAULT_NAME = "upload"
_BYTES = (bytes, bytearray, memoryview)


@dataclass(frozen=True)
class Local:
    """Something that is to be uploaded."""

    source: Path | bytes | bytearray | memoryview | BinaryIO

    def read(self) -> tuple[str, bytes]:
        """(name, bytes).  Blocks.  Raises OSError, and TypeError for a file that was opened as text."""
        if isinstance(self.source, _BYTES):
            return DEFAULT_NAME, bytes(self.source)
        if isinstance(self.source, Path):
            return _sendable(self.source.name), self.source.read_bytes()
        name, data = getattr(self.source, "name", None), self.source.read()
        if not isinstance(data, _BYTES):
            raise TypeError("A file that is an input must be opened for bytes, as by open(path, 'rb').")
        return _sendable(Path(name).name) if isinstance(name, str) else DEFAULT_NAME, bytes(data)


def _sendable(name: str) -> str:
    """The name with a question mark for each byte of it that is no UTF-8."""
    return name.encode(errors="replace").decode()


def told(source: Source) -> str | Local:
    """What an order says of an input: an id or an https address; or what must be uploaded for that.

    Raises ValueError for another kind of address, TypeError for something that can't be read.
    """
    if isinstance(source, Upload):
        return source.id
    if not isinstance(source, str):
        if not isinstance(source, (Path, *_BYTES)) and not hasattr(source, "read"):
            kind = type(source).__name__
            raise TypeError(
                f"An input is an https address, a file, bytes or an id, not a value of type {kind}."
            )
        return Local(source)
    if source.lower().startswith("https://"):
        return source
    if re.match(r"data:|[a-z][a-z0-9+.-]*://", source, re.IGNORECASE):
        raise ValueError(f"An input is an https address, a file, bytes or an id, not {source[:40]!r}.")
    return source if _ID.fullmatch(source) else Local(Path(source))


def several(sources: Source | Iterable[Source]) -> list[Source]:
    """One or several inputs as a list."""
    if isinstance(sources, (str, Path, Upload, *_BYTES)) or hasattr(sources, "read"):
        return [sources]  # type: ignore[list-item]  # what can be read is no list
    return list(sources)
