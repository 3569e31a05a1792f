#!/bin/sh
# One would guess: the package filetype, which tells a file's kind by its first bytes, says nothing of plain text.
# What happens: two or three letters are enough for it.  A text that begins with "BM" is image/bmp, one with "MZ" a Windows program,
# one with "ID3" is MP3, one with "fLaC" is FLAC, one with "OggS" is Ogg.
# Why it matters to us: notes that begin "BMW ..." were no text, and were refused as an upload.  What can be read as text is asked
# first; only what can not goes to such a library.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check filetype==1.2.0 2> pip.log || { cat pip.log; exit 1; }
cat > seen.py <<'PY'
import importlib.metadata
import sys

import filetype

SEEN = {
    "BMW drivers, read this first.": "image/bmp",
    "MZ is how old programs begin.": "application/x-msdownload",
    "ID3 tags, explained.": "audio/mpeg",
    "fLaC is a word in this text.": "audio/x-flac",
    "OggS is a word in this text.": "audio/ogg",
    "Dear all, this is a text.": None,
}

print("filetype", importlib.metadata.version("filetype"))
told = {}
for text in SEEN:
    found = filetype.guess((text + "\n" + "More words follow.\n" * 100).encode())
    told[text] = found.mime if found else None
    print(f"{text!r}: {told[text]}")
if told != SEEN:
    sys.exit("this has changed")
PY
env/bin/python seen.py
