#!/bin/sh
# One would guess: Pillow shows an animated PNG as its specification has it; whoever wants the first frame opens the
# file, or, where it has a picture outside of its animation (the default image, for programs that know of none), seeks
# to frame 1.
# What happens: open() gives the hidden default image.  seek(1) gives the animation's first frame *laid over* that image,
# wherever the frame is transparent or smaller than the whole; by the specification (PNG, third edition) the animation
# begins with a transparent canvas, and the hidden image is no part of it.
# Why it matters to us: the person of an uploaded or delivered picture may be in a frame, and a placeholder in the default
# image; neither may be taken for the other, nor mixed with it.  supervisor/pictures/png.py writes such a file anew.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq "pillow==13.0.0"
"$folder/venv/bin/python" - <<'PY'
import io
import struct
import sys
import zlib

import PIL
from PIL import Image


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def pixels(colour, width, height):
    return zlib.compress((b"\0" + bytes(colour) * width) * height)


hidden, frame = (0, 128, 0, 255), (255, 0, 0, 255)
data = b"\x89PNG\r\n\x1a\n"
data += chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 6, 0, 0, 0))
data += chunk(b"acTL", struct.pack(">II", 1, 0))
data += chunk(b"IDAT", pixels(hidden, 8, 8))
# One frame of 2 x 2 pixels at (4, 4), to be laid over (blend 1) what is there: at the beginning, nothing.
data += chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 2, 2, 4, 4, 1, 10, 0, 1))
data += chunk(b"fdAT", struct.pack(">I", 1) + pixels(frame, 2, 2))
data += chunk(b"IEND", b"")

seen = {}
with Image.open(io.BytesIO(data)) as image:
    seen["opened"] = (image.getpixel((0, 0)), image.getpixel((4, 4)))
    image.seek(1)
    seen["frame 1"] = (image.getpixel((0, 0)), image.getpixel((4, 4)))
print("Pillow", PIL.__version__, "(outside of the frame, inside of it):", seen)
print("the specification: ((0, 0, 0, 0), (255, 0, 0, 255))")
sys.exit(seen != {"opened": (hidden, hidden), "frame 1": (hidden, frame)})
PY
