"""The format of a file by its first bytes, never by its declared type.  Pure, and loads no image library.

It knows every format that `supervisor.pictures.normalise` decodes; only decoding shows whether the rest of the file is
valid.  Source of the brands: ISO/IEC 14496-12, section 4.3; ISO/IEC 23008-12, annex B; the AVIF
specification 1.1, section 6.
"""

from __future__ import annotations

from supervisor.media import file_kinds

HEAD_BYTES = 64  # enough bytes to recognise a file

EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/bmp": "bmp",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/heic": "heic",
    "image/heif": "heif",
}

_TYPES = {extension: type_ for type_, extension in EXTENSIONS.items()}

_SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
_BRANDS = {  # the first of these brands in the file decides; `mif1` and `msf1` only mean a picture
    "image/avif": (b"avif", b"avis"),
    "image/heic": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    "image/heif": (b"mif1", b"msf1"),
}


def picture_type(head: bytes) -> str | None:
    """The media type of a picture, by its first bytes; None for an unsupported format.  head: HEAD_BYTES or more."""
    for mark, type_ in _SIGNATURES:
        if head.startswith(mark):
            return type_
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":  # two letters alone may begin a text
        return "image/bmp"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return _type_of_box(head) if head[4:8] == b"ftyp" else None


def type_of_name(name: str) -> str:
    """The media type of one of our pictures, by the suffix of its name.

    Python's `mimetypes` asks the host, and before 3.13 knows no WebP where the host does not.
    """
    return _TYPES.get(name.rpartition(".")[2], "application/octet-stream")


def type_of_file(name: str) -> str:
    """The media type of a picture or any other file of ours, by the end of its name."""
    of_picture = type_of_name(name)
    return of_picture if of_picture != file_kinds.UNKNOWN else file_kinds.media_type_of(name)


def _type_of_box(head: bytes) -> str | None:
    """The major brand and the compatible brands of a file that begins with a `ftyp` box."""
    end = min(int.from_bytes(head[:4], "big"), HEAD_BYTES)
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}
    return next((type_ for type_, known in _BRANDS.items() if brands.intersection(known)), None)
