"""What user, operator and ledger see of each real AI server in each trouble: `make server-cases`.

`darkroom up` orders from a real server of the package registry, one order for each case, while the server is killed,
started, or asked for what it does not have.  Printed is a table: a row for each server and case.  ComfyUI is in no
registry: `--comfyui CHECKOUT --comfyui-python PYTHON` names a checkout of it and a Python that has what it needs; it is
run on the CPU with a node of a few lines and no model.  The exit status is 1 when a case ended otherwise than it must.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import shutil
import sys
import tempfile
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.real_servers import CASE_SECONDS, KINDS, Kind, install, running, write_app
from supervisor.security.tokens import make_user_token
from tests.support.fakes.fake_ai_service import Asked, FakeAiService, Reply
from tests.support.pictures import picture
from tests.support.running_system import RunningSystem, running_system
from tests.support.servers.cog_server import CogServer

ENDED = ("completed", "failed", "cancelled")
END_SECONDS = 120.0
AWAY_SECONDS = 6.0  # for which the server is away in the case `down`
CASES = (
    "order", "several", "cancel", "fail", "out of memory", "starting", "restarted in mid-job", "down", "wrong key",
    "wrong model", "wrong address",
)  # fmt: skip
MUST = {
    "order": "completed", "several": "completed", "cancel": "cancelled", "fail": "failed", "out of memory": "failed",
    "starting": "completed", "restarted in mid-job": "completed", "down": "completed",
}  # fmt: skip
# What stands behind a gateway bills: an order whose answer never came is not sent again.
PAID = {"restarted in mid-job": "failed"}
PROMPTS = {"cancel": "slow", "restarted in mid-job": "slow", "fail": "refuse", "out of memory": "oom"}
MASTER = {"KEY": "sk-master-1234"}

NODE = f"""
    import time
    import nodes

    class Probe:
        CATEGORY, FUNCTION, RETURN_TYPES = "darkroom", "run", ("IMAGE",)

        @classmethod
        def INPUT_TYPES(cls):
            kinds = {{"image": ("IMAGE",), "prompt": ("STRING", {{"default": ""}}), "seed": ("INT", {{}})}}
            return {{"required": kinds}}

        def run(self, image, prompt, seed):
            over = time.monotonic() + ({CASE_SECONDS} if prompt == "slow" else 0)
            while time.monotonic() < over:
                nodes.before_node_execution()  # an interrupt strikes here
                time.sleep(0.05)
            if prompt == "refuse":
                raise ValueError("The model has no such style.")
            if prompt == "oom":
                import torch
                raise torch.cuda.OutOfMemoryError("Allocation on device")
            return (1 - image,)

    NODE_CLASS_MAPPINGS = {{"DarkroomProbe": Probe}}
"""
WORKFLOW = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "${input.0.file}"}},
    "2": {
        "class_type": "DarkroomProbe",
        "inputs": {"image": ["1", 0], "prompt": "${params.prompt}", "seed": "${seed}"},
    },
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "darkroom"}},
}
NO_MODEL = {
    **WORKFLOW,
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "nobody.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["4", 2]}},
    "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "darkroom"}},
}


@dataclass(frozen=True)
class Server:
    """A server that runs.  url: its address.  settings: of its provider.  others: of the cases that differ; None where
    a case makes no sense.  start: starts it and waits until it is ready."""

    url: str
    kill: Callable[[], None]
    start: Callable[[], None]
    settings: dict[str, Any]
    others: dict[str, dict[str, Any] | None]

    def provider(self, case: str) -> dict[str, Any] | None:
        made = self.others.get(case, self.settings)
        if made is None:
            return None
        address = {"url": self.url + made.get("path", ""), "allow_private_addresses": True}
        return address | {name: value for name, value in made.items() if name != "path"}


def main() -> int:
    """The exit status."""
    asked = argparse.ArgumentParser(prog="bench.server_cases", description=__doc__)
    asked.add_argument("--only", action="append", help="a server; may be given again")
    asked.add_argument("--folder", type=Path, help="where environments are kept")
    asked.add_argument("--comfyui", type=Path, help="a checkout of ComfyUI")
    asked.add_argument("--comfyui-python", type=Path, default=Path(sys.executable))
    given = asked.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="darkroom-server-cases-"))
    folder.mkdir(exist_ok=True)
    wrong = 0
    print("| server | case | user | operator | ledger, requests | seconds |\n|---|---|---|---|---|---|")
    try:
        for name in ("cog", "gradio", "litserve", "bentoml", "litellm", "comfyui"):
            if given.only and name not in given.only:
                continue
            if name == "comfyui" and given.comfyui is None:
                print("| comfyui | all | *not run*: no `--comfyui CHECKOUT` | | | |")
                continue
            with opened_server(name, folder, given.comfyui, given.comfyui_python) as server:
                wrong += _cases(name, server)
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{wrong} not as they must be" if wrong else "\nall as they must be")
    return 1 if wrong else 0


# --- the servers ---


@contextlib.contextmanager
def opened_server(name: str, folder: Path, checkout: Path | None, python: Path) -> Iterator[Server]:
    home = folder / name
    if name == "cog":
        with CogServer(home) as cog:
            options = {"dialect": "cog", "input": {"image": "${input.0.data_uri}"}}
            settings = {"kind": "replicate", "options": options}

            def slow(**input_: Any) -> dict[str, Any]:
                return settings | {"options": options | {"input": options["input"] | input_}}  # type: ignore[operator]

            others = {
                "cancel": slow(seconds=CASE_SECONDS), "restarted in mid-job": slow(seconds=CASE_SECONDS),
                "fail": slow(fail=True), "out of memory": slow(full="CUDA out of memory. Tried to allocate 2.00 GiB."),
                "wrong key": None, "wrong model": None,
                "wrong address": settings | {"path": "/nowhere"},
            }  # fmt: skip
            yield Server(cog.url, cog.kill, cog.start, settings, others)
        return
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(FakeAiService(_upstream)).url if name == "litellm" else ""
        kind = _comfyui(home, checkout, python) if name == "comfyui" else KINDS[name]
        home.mkdir(exist_ok=True)
        if name != "comfyui":
            install(home, kind.packages)
            write_app(home, kind, upstream)
        url, (kill, start) = stack.enter_context(running(home, kind, politely=name == "bentoml"))
        settings, others = _settings(name, home)
        yield Server(url, kill, start, settings, others)


def _upstream(asked: Asked) -> Reply:
    """An images API behind a gateway."""
    words = str(asked.document or "") + str(asked.fields)
    if "oom" in words:
        return Reply(500, {"error": {"message": "CUDA out of memory", "type": "server_error"}})
    if "refuse" in words:
        return Reply(
            400, {"error": {"message": "The model has no such style.", "type": "invalid_request_error"}}
        )
    count = asked.document.get("n", 1) if isinstance(asked.document, dict) else 1
    made = {"created": 1, "data": [{"b64_json": base64.b64encode(picture("red")).decode()}] * count}
    return Reply(document=made, after_seconds=CASE_SECONDS if "slow" in words else 0.0)


def _comfyui(home: Path, checkout: Path | None, python: Path) -> Kind:
    """A server whose folders all lie in `home`, with a node of ours."""
    assert checkout is not None
    shutil.rmtree(home, ignore_errors=True)
    for folder in ("custom_nodes", "models", "input", "output", "temp", "user", "bin"):
        (home / folder).mkdir(parents=True)
    (home / "bin" / "python").symlink_to(python.absolute())
    (home / "custom_nodes" / "darkroom_probe.py").write_text(textwrap.dedent(NODE), encoding="utf-8")
    # The link would make Python look for its packages beside itself.
    (home / "bin" / "python").unlink()
    (home / "bin" / "python").write_text(f'#!/bin/sh\nexec "{python.absolute()}" "$@"\n', encoding="utf-8")
    (home / "bin" / "python").chmod(0o755)
    command = (
        "python", str(checkout.absolute() / "main.py"), "--cpu", "--listen", "127.0.0.1", "--port", "PORT",
        "--base-directory", str(home), "--disable-api-nodes", "--database-url", "sqlite:///:memory:",
    )  # fmt: skip
    return Kind((), "", "", command, "/system_stats", ())


def _settings(name: str, home: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any] | None]]:
    nowhere: dict[str, Any]
    match name:
        case "gradio":
            options = {
                "endpoint": "invert",
                "input": {"image": "${input.0.file}", "prompt": "${params.prompt}"},
            }
            usual: dict[str, Any] = {"kind": "gradio", "options": options}
            model = usual | {"options": options | {"endpoint": "nobody"}}
            return usual, {
                "wrong key": None,
                "wrong model": model,
                "wrong address": usual | {"path": "/nowhere"},
            }
        case "litserve":
            usual = {"preset": "litserve"}
            return usual, {
                "wrong key": None,
                "wrong model": None,
                "wrong address": usual | {"path": "/nowhere"},
            }
        case "bentoml":
            usual = {"preset": "bentoml"}
            model = {"preset": "bentoml-task", "model": "nobody"}
            return usual, {
                "wrong key": None,
                "wrong model": model,
                "wrong address": usual | {"path": "/nowhere"},
            }
        case "litellm":
            usual = {"preset": "litellm", "model": "paint", "options": {"edit_style": "none"}, "path": "/v1"}
            usual |= {"secrets": MASTER}
            nowhere = usual | {"path": "/nowhere"}
            key = usual | {"secrets": {"KEY": "sk-wrong"}}
            return usual, {
                "wrong key": key,
                "wrong model": usual | {"model": "nobody"},
                "wrong address": nowhere,
            }
        case _:
            files = {"workflow.json": WORKFLOW, "no-model.json": NO_MODEL}
            for file, workflow in files.items():
                (home / file).write_text(json.dumps(workflow), encoding="utf-8")
            usual = {"kind": "comfyui", "options": {"workflow": str(home / "workflow.json")}}
            model = {"kind": "comfyui", "options": {"workflow": str(home / "no-model.json")}}
            return usual, {
                "wrong key": None,
                "wrong model": model,
                "wrong address": usual | {"path": "/nowhere"},
            }


# --- the cases ---


def _cases(name: str, server: Server) -> int:
    """How many ended otherwise than they must."""
    providers = {case: server.provider(case) for case in CASES}
    settings = {"CREDITS__ENABLED": "true", "CREDITS__SIGNUP_GRANT": "1000", "WORKER_PROCESSES": "1"}
    lines = list[str]()
    for case, provider in providers.items():
        if provider is not None:
            patience = 600 if case in MUST else 25
            lines.append(
                f'tasks.{_type(case)} = {{ provider = "{_type(case)}", max_attempts = 2, expire_seconds = {patience} }}'
            )
            lines.append(f"providers.{_type(case)} = {_toml(provider)}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "darkroom.toml"
        file.write_text("\n".join(lines), encoding="utf-8")
        wrong = _all(name, server, providers, file, settings)
    return wrong


def _all(
    name: str,
    server: Server,
    providers: dict[str, dict[str, Any] | None],
    config: Path,
    settings: dict[str, str],
) -> int:
    wrong = 0
    with running_system(None, Path(f"{config}.log"), config=config, **settings) as system:
        image = system.upload_sample()
        for case in CASES:
            if providers[case] is None:
                print(f"| {name} | {case} | *does not apply* | | | |", flush=True)
                continue
            began = time.monotonic()
            task = _carry_out(case, server, system, image)
            ended = _ended(system, task)
            seconds = time.monotonic() - began
            status = ended[0]
            must = MUST | (PAID if name == "litellm" else {})
            is_right = must.get(case, status if status in ENDED else "") == status
            wrong += not is_right
            cells = (_user(system, task), _operator(system, task), _ledger(system, task))
            mark = "" if is_right else "**WRONG** "
            print(f"| {name} | {mark}{case} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)
    return wrong


def _type(case: str) -> str:
    return case.replace(" ", "_").replace("-", "_")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_toml(each)}" for name, each in value.items()) + " }"
    return json.dumps(value)


def _carry_out(case: str, server: Server, system: RunningSystem, image: str) -> str:
    """The task's id, once all that happens to its server has happened."""
    count = 3 if case == "several" else 1
    params = {"images": [image], "prompt": PROMPTS.get(case, "by the sea"), "count": count}
    if case in ("down", "starting"):
        server.kill()
    if case == "starting":
        starting = threading.Thread(target=server.start)
        starting.start()
    task = str(_call(system, "POST", "/v1/tasks", {"type": _type(case), "params": params})["task_id"])
    if case == "starting":
        starting.join()
    elif case == "down":
        threading.Event().wait(AWAY_SECONDS)
        server.start()
    elif case in ("cancel", "restarted in mid-job"):
        _until(lambda: _is_with_the_service(system, task))
        threading.Event().wait(1.5)  # so that the server has begun
        if case == "cancel":
            with contextlib.suppress(urllib.error.HTTPError):  # it has ended otherwise, as the table will say
                _call(system, "POST", f"/v1/tasks/{task}/cancel", {})
        else:
            server.kill()
            server.start()
    return task


def _is_with_the_service(system: RunningSystem, task: str) -> bool:
    states = system.sql(f"SELECT state FROM remote_job WHERE task_id = '{task}'")
    return any(state in ("submitting", "waiting") for (state,) in states)


def _ended(system: RunningSystem, task: str) -> tuple[Any, ...]:
    def row() -> tuple[Any, ...]:
        return system.sql(f"SELECT status, error FROM task_queue WHERE id = '{task}'")[0]

    _until(lambda: row()[0] in ENDED)
    return row()


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + END_SECONDS
    while not holds() and time.monotonic() < end:
        threading.Event().wait(0.1)


def _call(system: RunningSystem, method: str, path: str, body: Any = None, role: str = "user") -> Any:
    secret = (system.data_dir / "secret").read_text().strip()
    token = make_user_token(secret, "demo", role=role, ttl_seconds=60)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(system.url + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


# --- who saw what ---


def _user(system: RunningSystem, task: str) -> str:
    seen = _call(system, "GET", f"/v1/tasks/{task}")
    if seen["status"] == "completed":
        return f"completed, {len(seen['result']['images'])} pictures"
    error = seen["error"]
    return f"{seen['status']}" + (f", `{error['code']}`: {_cell(error['message'])}" if error else "")


def _operator(system: RunningSystem, task: str) -> str:
    """What the history has besides: why it was put back, and the service's own words."""
    told = list[str]()
    for event, error in system.sql(
        f"SELECT event, error FROM task_event WHERE task_id = '{task}' AND event IN ('attempt_failed','postponed')"
    ):
        said = json.loads(error) if error else {}
        line = f"{event}: {_cell(said.get('detail') or said.get('message') or '', 160)}"
        if said and line not in told:
            told.append(line)
    down = system.sql("SELECT name, reason FROM provider_state WHERE breaker = 'open'")
    told += [f"down: {name} ({_cell(reason, 80)})" for name, reason in down]
    return "; ".join(told[:4]) or "–"


def _ledger(system: RunningSystem, task: str) -> str:
    entries = system.sql(f"SELECT kind, amount FROM credit_entry WHERE task_id = '{task}' ORDER BY id")
    jobs = system.sql(f"SELECT state, count(*) FROM remote_job WHERE task_id = '{task}' GROUP BY state")
    attempts = system.sql(f"SELECT attempt, failures FROM task_queue WHERE id = '{task}'")[0]
    paid = ", ".join(f"{kind} {amount:+d}" for kind, amount in entries)
    asked = ", ".join(f"{count} {state}" for state, count in jobs)
    return f"{paid}; {asked or 'no request'}; {attempts[0]} attempts, {attempts[1]} failures"


def _cell(text: str, most: int = 220) -> str:
    """One line of a table."""
    line = " ".join(text.split()).replace("|", "/")
    return line if len(line) <= most else f"{line[:most]}…"


if __name__ == "__main__":
    sys.exit(main())
