#!/bin/sh
# One would guess: 0.3 is a multiple of 0.1, so {"multipleOf": 0.1} takes 0.3, whoever checks it.
# What happens: the Python package jsonschema divides binary floats, gets 2.9999999999999996 and says that 0.3 is not valid; 0.7,
# 2.3, and 4.35 or 19.99 by 0.01, too, while 0.2 and 1.1 pass.  jsonschema-rs compares the decimals as they are written and takes all.
# Why it matters to us: a slider with a step of 0.1, or a price in cents, makes numbers that one validator refuses and another
# takes.  The schema of a task type is checked by jsonschema-rs; whoever checks orders in the backend with jsonschema refuses good ones.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check jsonschema==4.26.0 jsonschema-rs==0.61.2 2> pip.log || { cat pip.log; exit 1; }
cat > seen.py <<'PY'
import importlib.metadata
import sys

import jsonschema
import jsonschema_rs

VALUES = ((0.2, 0.1), (0.3, 0.1), (0.7, 0.1), (1.1, 0.1), (2.3, 0.1), (4.35, 0.01), (19.99, 0.01))
SEEN = {0.2: True, 0.3: False, 0.7: False, 1.1: True, 2.3: False, 4.35: False, 19.99: False}

for package in ("jsonschema", "jsonschema-rs"):
    print(package, importlib.metadata.version(package))
by_python, by_rust = {}, {}
for value, step in VALUES:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "number", "multipleOf": step}
    jsonschema.Draft202012Validator.check_schema(schema)
    by_python[value] = jsonschema.Draft202012Validator(schema).is_valid(value)
    by_rust[value] = jsonschema_rs.validator_for(schema).is_valid(value)
    print(f"{value} is a multiple of {step}: jsonschema {by_python[value]}, jsonschema-rs {by_rust[value]}")
if by_python != SEEN or not all(by_rust.values()):
    sys.exit("this has changed")
PY
env/bin/python seen.py
