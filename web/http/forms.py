"""Reading `multipart/form-data`: few parts, few bytes besides the files, and pauses for other requests.

The parser is the library `multipart`: it does no I/O, limits the number of parts and the size of their heads while it
reads, and never reads a byte twice.  The bytes besides the files, in heads and other fields, are counted here.  A
preamble has to end in the first piece (`strict`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser

from web.http.problems import Problem, unprocessable

MOST_HEADS = 8  # RFC 7578 knows three
MOST_HEAD_BYTES = 2048  # of one line: a long file name
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BOUNDARY = re.compile(r"[\x20-\x7e]{0,69}[\x21-\x7e]")  # RFC 2046, section 5.1.1: 1-70 characters
_SENT = re.compile(rb"(?:\r\n)?--([\x20-\x7e]{0,69}[\x21-\x7e])[ \t]*\r\nContent-", re.IGNORECASE)
HEAD_BYTES = 128  # of a body, to see the boundary in it


@dataclass(frozen=True, slots=True)
class FormLimits:
    """files: names of the fields with files; the caller limits their bytes.

    parts: fields and files together.  bytes_around: everything except the files' content.
    """

    files: tuple[str, ...]
    parts: int
    bytes_around: int


@dataclass(frozen=True, slots=True)
class Part:
    """The head of a part.  Its declared type is ignored: clients send `image`, `*/*`, `jpg` or nothing."""

    name: str
    filename: str = ""


async def events_of(
    pieces: AsyncIterable[bytes], boundary: str, limits: FormLimits
) -> AsyncGenerator[Part | bytes | None]:
    """The head of a part, its content in pieces, then None; the next part.  pieces: the whole body.

    Raises Problem: 422 for a broken form, 413 for one with too much content; and the exceptions of reading the pieces.
    """
    try:
        with PushMultipartParser(
            boundary,
            max_header_count=MOST_HEADS,
            max_header_size=MOST_HEAD_BYTES,
            max_segment_count=limits.parts,
            header_charset="latin-1",  # takes all bytes; `_words` reads UTF-8 in them
            strict=True,
        ) as parser:
            around, is_file = 0, False
            async for piece in pieces:
                for event in parser.parse(piece):
                    if isinstance(event, MultipartSegment):
                        part = Part(_words(event.name), _words(event.filename))
                        is_file = part.name in limits.files
                        around += _size_of(event.headerlist, limits)
                    elif event is not None and not is_file:
                        around += len(event)
                    if around > limits.bytes_around:
                        raise _too_much(f"more than {limits.bytes_around:,} bytes beside its files")
                    yield part if isinstance(event, MultipartSegment) else event
    except ParserLimitReached:
        raise _too_much(
            f"more than {limits.parts} parts, or a part with more than {MOST_HEADS} heads of "
            f"{MOST_HEAD_BYTES:,} bytes"
        ) from None
    except MultipartError:
        raise _broken(limits) from None


def _size_of(heads: list[tuple[str, str]], limits: FormLimits) -> int:
    """Bytes of a part's heads.  Raises a Problem for control characters, which no browser sends."""
    if any(_CONTROL.search(value) for _, value in heads):
        raise _broken(limits)
    return sum(len(name) + len(value) for name, value in heads)


def _words(name: str | None) -> str:
    """A name in a part's head.  Browsers, curl and the SDKs send UTF-8; other bytes stay as Latin-1."""
    try:
        return (name or "").encode("latin-1").decode()
    except UnicodeError:
        return name or ""


def _broken(limits: FormLimits) -> Problem:
    return unprocessable(f"/{limits.files[0]}", "The form is broken.")


def boundary_of(content_type: str, head: bytes, limits: FormLimits) -> str | None:
    """The boundary of a form; None if the body is not a form.

    head: the first HEAD_BYTES of the body.  Its first line has precedence over `Content-Type`: a hand-written client
    may name no boundary, or another one.  Raises a Problem.
    """
    sent = _SENT.match(head)
    if sent is not None:
        return sent[1].decode("ascii")
    if not content_type.strip().lower().startswith("multipart/"):
        return None
    boundary = _declared_boundary(content_type)
    if boundary is None or not _BOUNDARY.fullmatch(boundary):
        raise unprocessable(
            f"/{limits.files[0]}",
            "The form is broken: its Content-Type names no boundary of 1-70 characters.",
        )
    return boundary


_QUOTED = re.compile(r'"([^"\\]*)"')


def _declared_boundary(content_type: str) -> str | None:
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "boundary":
            quoted = _QUOTED.fullmatch(value.strip())
            return quoted[1] if quoted else value.strip()
    return None


def _too_much(what: str) -> Problem:
    return Problem(413, f"The form holds {what}.", kind="too_large")
