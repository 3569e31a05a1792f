#!/bin/sh
# One would guess: Image.open() reads a file's header and nothing else ("a lazy operation", Pillow's documentation), so
# the size of a picture can be judged before it costs anything.
# What happens: for WebP, stills too, the animation decoder is made in open(), and with it two canvases: 8 bytes for
# every pixel that the header promises.  JPEG and PNG of the same size take next to nothing.
# Why it matters to us: our image children may use little memory until a picture's size is known; a sound WebP photo of
# 16 million pixels and more failed there, and was called damaged.  supervisor/pictures/webp.py reads the size first.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq "pillow==13.0.0"
"$folder/venv/bin/python" - <<'PY'
import io
import sys

import PIL
from PIL import Image

WIDTH, HEIGHT = 4000, 3000


def addresses():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmSize:"))


def encoded(format_, size):
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, format_)
    return out.getvalue()


seen = {}
files = {format_: encoded(format_, (WIDTH, HEIGHT)) for format_ in ("JPEG", "PNG", "WEBP")}
for format_, data in files.items():
    Image.open(io.BytesIO(encoded(format_, (8, 8)))).close()  # what is loaded once
    before = addresses()
    image = Image.open(io.BytesIO(data))
    seen[format_] = round((addresses() - before) / WIDTH / HEIGHT, 1)
    image.close()
    del image
print("Pillow", PIL.__version__, "bytes a pixel after open():", seen)
sys.exit(not (seen["WEBP"] >= 7.5 and seen["JPEG"] < 1 and seen["PNG"] < 1))
PY
