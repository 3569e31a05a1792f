"""How large a WebP picture is, by the first bytes of its file.  Pure.

Pillow's decoder takes two canvases' memory, 8 bytes a pixel, as soon as a file is opened, so this is asked before.
Source: WebP container specification (Google), RFC 6386 section 9.1, RFC 9649 section 3.4.
"""

from __future__ import annotations

HEAD_BYTES = 30


def webp_size(head: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels; None for what is no WebP file, or does not say.  head: HEAD_BYTES or more."""
    if len(head) < HEAD_BYTES or head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    match head[12:16]:
        case b"VP8 " if head[23:26] == b"\x9d\x01\x2a":
            return _number(head[26:28]) & 0x3FFF, _number(head[28:30]) & 0x3FFF
        case b"VP8L" if head[20] == 0x2F:
            bits = _number(head[21:25])
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return _number(head[24:27]) + 1, _number(head[27:30]) + 1
    return None


def _number(text: bytes) -> int:
    return int.from_bytes(text, "little")
