#!/bin/sh
# One would guess: a gateway passes an order on once, and passes the service's 500 back; whether to ask again is the caller's to say.
# What happens: with a configuration that says nothing of retries, LiteLLM's proxy asks the service nine times for one order of a
# picture (three rounds of its router, each of three requests of the OpenAI client), none of them with an idempotency key, and
# answers a single 500 that does not tell.  `num_retries: 0` leaves three: `max_retries: 0` of a model is not heeded for pictures.
# Why it matters to us: a service that makes the picture and then fails to answer may bill it nine times, although we sent one
# request and never repeat one that may cost money.
set -eu
folder=$(mktemp -d)
servers=
trap 'for each in $servers; do kill "$each" 2>/dev/null || true; done; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check 'litellm[proxy]==1.80.0' 2> pip.log || { cat pip.log; exit 1; }
cat > service.py <<'PY'
"""An images API that fails: it writes down what it is asked."""
import http.server
import sys


class Service(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with open("asked", "a") as asked:
            print(self.path, self.headers.get("Idempotency-Key"), file=asked)
        body = b'{"error": {"message": "busy", "type": "server_error"}}'
        self.send_response(500)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Service).serve_forever()
PY
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
service=$(free_port)
python3 service.py "$service" &
servers=$!
cat > ask.py <<'PY'
import pathlib
import sys
import time
import urllib.error
import urllib.request

url, end = f"http://127.0.0.1:{sys.argv[1]}", time.monotonic() + 120
while True:
    try:
        urllib.request.urlopen(f"{url}/health/liveliness", timeout=5).close()
        break
    except OSError:
        if time.monotonic() > end:
            sys.exit("the proxy does not start")
        time.sleep(0.5)
headers = {"Authorization": "Bearer sk-1234", "Content-Type": "application/json"}
order = urllib.request.Request(f"{url}/v1/images/generations", b'{"model": "paint", "prompt": "a boat"}', headers)
try:
    status = urllib.request.urlopen(order, timeout=120).status
except urllib.error.HTTPError as error:
    status = error.code
asked = pathlib.Path("asked").read_text().splitlines()
pathlib.Path("asked").unlink()
keys = sum(not line.endswith(" None") for line in asked)
print(f"{sys.argv[2]}: one order, HTTP {status}; the service was asked {len(asked)} times, {keys} of them with a key")
sys.exit(0 if (status, len(asked), keys) == (500, int(sys.argv[3]), 0) else "this has changed")
PY
env/bin/python -c 'import importlib.metadata; print("litellm", importlib.metadata.version("litellm"))'
run() { # NAME, TIMES, what a model's and the router's settings are besides
    proxy=$(free_port)
    cat > config.yaml <<YAML
model_list:
  - model_name: paint
    litellm_params: {model: openai/gpt-image-1, api_base: "http://127.0.0.1:$service/v1", api_key: sk-upstream$3}
general_settings: {master_key: sk-1234}
$4
YAML
    PATH="$folder/env/bin:$PATH" env/bin/litellm --config config.yaml --host 127.0.0.1 --port "$proxy" --telemetry False > proxy.log 2>&1 &
    servers="$servers $!"
    python3 ask.py "$proxy" "$1" "$2"
}
run "no word of retries" 9 "" ""
run "num_retries and max_retries 0" 3 ", max_retries: 0" "router_settings: {num_retries: 0}"
