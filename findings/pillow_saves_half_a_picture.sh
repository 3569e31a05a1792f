#!/bin/sh
# One would guess: Image.save to a path or an open file either writes the whole picture or raises OSError.
# What happens: Pillow's JPEG encoder hands the file's number to C code that calls write(2) once for each buffer and only
# looks whether it returned -1.  A disk (or a limit, here `ulimit -f`) that takes a part of a buffer makes a short write:
# save() returns normally and the picture is cut.  With optimize=True the buffer is the whole picture, so no later write
# meets the error.  A BytesIO has no number, so what is saved there and then written by Python is whole or raises.
# Why it matters to us: a cut picture would be stored, billed and shown as a good one when a disk fills up.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq "pillow==13.0.0"
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import io
import pathlib
import resource
import sys

import PIL
from PIL import Image

ROOM = 1000
picture = Image.effect_noise((600, 600), 90).convert("RGB")
resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))


def seen(write):
    path = pathlib.Path("picture.jpg")
    path.unlink(missing_ok=True)
    try:
        write(path)
    except OSError as error:
        return f"OSError {error.errno}"
    return f"no error, {path.stat().st_size} bytes"


def by_python(path):
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", optimize=True)
    path.write_bytes(encoded.getbuffer())


found = {
    "save(path, optimize=True)": seen(lambda path: picture.save(path, "JPEG", optimize=True)),
    "save(BytesIO), then write": seen(by_python),
}
print("Pillow", PIL.__version__)
for how, what in found.items():
    print(f"{how}: {what}")
expected = {"save(path, optimize=True)": f"no error, {ROOM} bytes", "save(BytesIO), then write": "OSError 27"}
sys.exit(found != expected)
PY
