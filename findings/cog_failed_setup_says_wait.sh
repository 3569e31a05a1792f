#!/bin/sh
# One would guess: a 503 that says "Setup has not finished yet. Wait until it has finished" ends by itself, and a health check
# that answers 200 belongs to a healthy server.
# What happens: a cog server whose setup() has raised goes on for good.  It answers each prediction with the same 503 and the same
# "wait" as while it is loading, and /health-check with HTTP 200.  Only the word `status` in that body tells the two apart
# (STARTING, SETUP_FAILED), and the reason is the last line of `setup.logs`.
# Why it matters to us: who waits out the 503 waits for ever, and who watches the status of /health-check sees a good server.
set -eu
folder=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check cog==0.23.1 2> pip.log || { cat pip.log; exit 1; }
cat > predict.py <<'PY'
import pathlib
import time

from cog import BaseRunner


class Predictor(BaseRunner):
    def setup(self):
        while not pathlib.Path("go").exists():
            time.sleep(0.05)
        raise RuntimeError("weights/model.safetensors is not there")

    def run(self, text: str) -> str:
        return text
PY
echo 'predict: "predict.py:Predictor"' > cog.yaml
cat > seen.py <<'PY'
import importlib.metadata
import json
import pathlib
import sys
import time
import urllib.error
import urllib.request

BASE = f"http://127.0.0.1:{sys.argv[1]}"


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def until(state):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if (seen := ask("/health-check"))[1]["status"] == state:
                return seen
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"never {state}: {ask('/health-check')}")


print("cog", importlib.metadata.version("cog"))
loading, refused_loading = until("STARTING"), ask("/predictions", {"input": {"text": "x"}})
pathlib.Path("go").touch()
failed, refused_failed = until("SETUP_FAILED"), ask("/predictions", {"input": {"text": "x"}})
print("while it loads: ", loading[0], loading[1]["status"], "| a prediction:", *refused_loading)
print("after it failed:", failed[0], failed[1]["status"], "| a prediction:", *refused_failed)
print("the reason:     ", failed[1]["setup"]["logs"].splitlines()[-1])
same = refused_loading == refused_failed and refused_failed[0] == 503 and "Wait" in refused_failed[1]["error"]
told = failed[0] == loading[0] == 200 and "model.safetensors" in failed[1]["setup"]["logs"].splitlines()[-1]
sys.exit(0 if same and told else "this has changed")
PY
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
PATH="$folder/env/bin:$PATH" PORT=$port COG_PREDICT_TYPE_STUB=predict.py:Predictor COG_NO_UPDATE_CHECK=1 \
    env/bin/python -m cog.server.http --host 127.0.0.1 > cog.log 2>&1 &
server=$!
env/bin/python seen.py "$port"
