#!/bin/sh
# openapi-python-client: an operation that takes a form or the same file as application/octet-stream is valid OpenAPI.
# A good engineer would guess that the generated client offers both, or one of them.  The module that is written for the
# operation uses a name that it does not import: it can't be imported at all, though the generator ends with status 0 and
# no warning.  With the form alone, or beside types such as image/jpeg (which are left out with a warning), it works.
set -eu
cd "$(mktemp -d)"
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install openapi-python-client==0.29.1 2>/dev/null
cat > make.py <<'PY'
import json
import sys

picture = {"type": "string", "format": "binary"}
form = {"schema": {"type": "object", "required": ["image"], "properties": {"image": picture}}}
content = {"multipart/form-data": form, sys.argv[1]: {"schema": picture}}
operation = {
    "operationId": "upload",
    "tags": ["pictures"],
    "requestBody": {"required": True, "content": content},
    "responses": {"204": {"description": "Stored."}},
}
json.dump(
    {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {"/pictures": {"post": operation}}},
    open(sys.argv[2], "w"),
)
PY
works() {  # media type, name: whether what is generated can be imported
  env/bin/python make.py "$1" "$2.json"
  env/bin/openapi-python-client generate --path "$2.json" --output-path "$2" --meta none > "$2.log" 2>&1
  env/bin/python -c "import $2.api.pictures.upload" 2> "$2.error" && echo works || tail -1 "$2.error"
}
env/bin/openapi-python-client --version
both="$(works application/octet-stream both)"
other="$(works image/jpeg other)"
echo "a form or application/octet-stream: $both; said by the generator: $(grep -c WARNING both.log || true) warnings"
echo "a form or image/jpeg: $other; said by the generator: $(grep -c WARNING other.log || true) warnings"
case "$both" in *"name 'Unset' is not defined"*) ;; *) echo "CHANGED: $both"; exit 1 ;; esac
[ "$other" = works ] || { echo "CHANGED: $other"; exit 1; }
! grep -q WARNING both.log || { echo "CHANGED: it warns now"; exit 1; }
echo "as described"
