#!/bin/sh
# One would guess: a proxy with a master key answers a request with another key by 401, as OpenAI's API does.
# What happens: without a database, LiteLLM's proxy answers 400 "No connected db.", as it would answer a bad order; with the right
# key an unknown model is 400 too.
# Why it matters to us: the status does not tell whose fault a refusal is.  An order must not be failed for good, and none of the
# others be kept away, because of it alone: two different orders and a question of our own decide.
set -eu
folder=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check 'litellm[proxy]==1.80.0' 2> pip.log || { cat pip.log; exit 1; }
cat > config.yaml <<'YAML'
model_list:
  - model_name: paint
    litellm_params: {model: openai/gpt-image-1, api_base: "http://127.0.0.1:9/v1", api_key: sk-upstream}
general_settings: {master_key: sk-1234}
YAML
cat > seen.py <<'PY'
import importlib.metadata
import json
import sys
import time
import urllib.error
import urllib.request

URL = f"http://127.0.0.1:{sys.argv[1]}"


def ask(key, model):
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    order = json.dumps({"model": model, "prompt": "a boat"}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{URL}/v1/images/generations", order, headers), timeout=60) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        told = json.load(error)
        return error.code, str(told.get("error", told))


end = time.monotonic() + 120
while True:
    try:
        urllib.request.urlopen(f"{URL}/health/liveliness", timeout=5).close()
        break
    except OSError:
        if time.monotonic() > end:
            sys.exit("the proxy does not start")
        time.sleep(0.5)
print("litellm", importlib.metadata.version("litellm"))
key, model = ask("sk-another", "paint"), ask("sk-1234", "nobody")
print("another key:     HTTP", *key)
print("an unknown model: HTTP", model[0], model[1][:120])
same = key[0] == model[0] == 400 and "No connected db" in key[1] and "nobody" in model[1]
sys.exit(0 if same else "this has changed")
PY
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
PATH="$folder/env/bin:$PATH" env/bin/litellm --config config.yaml --host 127.0.0.1 --port "$port" --telemetry False > proxy.log 2>&1 &
server=$!
env/bin/python seen.py "$port"
