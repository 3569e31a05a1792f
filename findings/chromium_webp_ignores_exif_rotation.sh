#!/bin/sh
# One would guess: the rotation that EXIF names is obeyed by a browser or not, whatever the format that carries it; and what
# Pillow's exif_transpose makes of a picture is what its owner saw in the page when choosing it.
# What happens: Chromium turns a JPEG and a PNG as their EXIF says, and an AVIF as its own `irot` box says.  A WebP with the
# same EXIF it shows as the pixels lie; CSS `image-orientation: from-image` and createImageBitmap do the same.  Pillow turns
# all four.
# Why it matters to us: a photo that was converted to WebP with its metadata (cwebp -metadata all) lies on its side in the
# page's preview, and the stored picture stands upright.  Darkroom turns it, since the camera's EXIF knows how the camera
# was held and an AI service must see an upright person; width and height are told of the stored picture, so a page must
# take them from the answer of POST /v1/images, never from the file that it sends.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq "pillow==13.0.0"
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
from pathlib import Path

import PIL
from PIL import Image, ImageOps

ORIENTATION, QUARTER_TURN = 0x0112, 6
print("Pillow", PIL.__version__)
for format_ in ("JPEG", "PNG", "WEBP", "AVIF"):
    path = Path(sys.argv[1]) / f"picture.{format_.lower()}"
    exif = Image.Exif()
    exif[ORIENTATION] = QUARTER_TURN
    Image.new("RGB", (64, 32), "red").save(path, format_, exif=exif)
    with Image.open(path) as picture:
        size = ImageOps.exif_transpose(picture).size
    print("  exif_transpose:", format_, size)
    assert size == (32, 64), (format_, size)
PY
cd "$folder"
echo '{"private":true}' > package.json
npm install --silent --no-audit --no-fund @sparticuz/chromium@153.0.0 puppeteer-core@25.16.0 > npm.log 2>&1 || { cat npm.log; exit 1; }
cat > shown.mjs <<'JS'
import assert from 'node:assert'
import { readFileSync } from 'node:fs'
import chromium from '@sparticuz/chromium'
import puppeteer from 'puppeteer-core'

const args = await puppeteer.defaultArgs({ args: chromium.args, headless: 'shell' })
const browser = await puppeteer.launch({ args, executablePath: await chromium.executablePath(), headless: 'shell' })
try {
  console.log(await browser.version())
  const page = await browser.newPage()
  const seen = {}
  for (const kind of ['jpeg', 'png', 'webp', 'avif']) {
    const address = `data:image/${kind};base64,` + readFileSync(`picture.${kind}`).toString('base64')
    seen[kind] = await page.evaluate(async (source) => {
      const picture = new Image()
      picture.style.imageOrientation = 'from-image'
      picture.src = source
      document.body.append(picture)
      await picture.decode()
      const bitmap = await createImageBitmap(await (await fetch(source)).blob())
      return [picture.naturalWidth, picture.naturalHeight, bitmap.width, bitmap.height]
    }, address)
    console.log('  <img> and createImageBitmap:', kind, seen[kind].join(' '))
  }
  const turned = [32, 64, 32, 64]
  assert.deepStrictEqual(seen, { jpeg: turned, png: turned, webp: [64, 32, 64, 32], avif: turned })
} finally {
  await browser.close()
}
JS
node shown.mjs
