"""Real AI servers of the package registry, run beside our adapters and presets: `make real-servers`.

Each is installed into an environment of its own in a temporary folder, started with an app of a few lines, and asked
through the settings that docs/ai-services.md names.  Each line has the sentence that a user would read in that case;
the exit status is 1 when one is unexpected.  `--only NAME` takes one of them, `--folder` keeps the environments.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.providers.base import Accepted, Done, Job, ProviderError, Running
from tests.support.fakes.openai_service import OpenAi
from tests.support.providers.adapters import Adapters

START_SECONDS, STOP_SECONDS = 120.0, 20.0
SLOW_SECONDS = 20
CASE_SECONDS = 8  # of an order whose prompt is "slow"

GRADIO = """
    import os, time
    import gradio as gr
    from PIL import ImageOps

    def invert(image, seconds=0.2, fail=False, prompt=""):
        time.sleep(SLOW if prompt == "slow" else seconds)
        if prompt == "oom":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if fail or prompt == "refuse":
            raise gr.Error("The model has no such style.")
        return ImageOps.invert(image.convert("RGB"))

    with gr.Blocks() as app:
        parts = [gr.Image(type="pil"), gr.Number(0.2), gr.Checkbox(), gr.Textbox("")]
        gr.Button("go").click(invert, parts, gr.Image(format="png"), api_name="invert")
    app.queue().launch(server_name="127.0.0.1", server_port=int(os.environ["PORT"]))
"""

LITSERVE = """
    import base64, io, os, time
    import litserve
    from fastapi import HTTPException
    from PIL import Image, ImageOps

    class Invert(litserve.LitAPI):
        def setup(self, device):
            pass

        def decode_request(self, request):
            return request

        def predict(self, asked):
            time.sleep(SLOW if asked.get("prompt") == "slow" else asked.get("seconds", 0.1))
            if asked.get("prompt") == "oom":
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            if asked.get("prompt") == "refuse":
                raise HTTPException(422, "The picture is too small.")
            given = Image.open(io.BytesIO(base64.b64decode(asked["image"].partition(",")[2]))).convert("RGB")
            out = io.BytesIO()
            ImageOps.invert(given).save(out, "PNG")
            return base64.b64encode(out.getvalue()).decode()

        def encode_response(self, output):
            return {"image": output}

    if __name__ == "__main__":
        server = litserve.LitServer(Invert(), accelerator="cpu")
        server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False)
"""

BENTOML = """
    import time
    import bentoml
    from bentoml.exceptions import InvalidArgument
    from PIL import ImageOps
    from PIL.Image import Image

    @bentoml.service
    class Invert:
        @bentoml.api
        def generate(self, image: Image, prompt: str = "") -> Image:
            time.sleep(SLOW if prompt == "slow" else 0)
            if prompt == "oom":
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            if prompt == "refuse":
                raise InvalidArgument("The picture is too small.")
            return ImageOps.invert(image.convert("RGB"))

        @bentoml.task
        def slow(self, image: Image, prompt: str = "") -> Image:
            time.sleep(1)
            if prompt == "refuse":
                raise InvalidArgument("The picture is too small.")
            return ImageOps.invert(image.convert("RGB"))
"""

LITELLM = """
    model_list:
      - model_name: paint
        litellm_params: {model: openai/gpt-image-1, api_base: "UPSTREAM/v1", api_key: sk-upstream}
    general_settings: {master_key: sk-master-1234}
"""


@dataclass(frozen=True)
class Case:
    """settings: of the provider, without its address.  says: the class that comes, or `Done`, and words in its text."""

    name: str
    settings: dict[str, Any]
    says: str
    words: str = ""
    prompt: str = "by the sea"


@dataclass(frozen=True)
class Kind:
    """A server.  packages: as pip takes them.  file, text: its app.  command: after the environment's own folder."""

    packages: tuple[str, ...]
    file: str
    text: str
    command: tuple[str, ...]
    ready: str
    cases: tuple[Case, ...]
    environment: dict[str, str] = field(default_factory=dict)
    slow: dict[str, Any] = field(default_factory=dict)  # the settings of an order that takes SLOW_SECONDS


def _gradio(**input_: Any) -> dict[str, Any]:
    return {
        "kind": "gradio",
        "options": {"endpoint": "invert", "input": {"image": "${input.0.file}", **input_}},
    }


_PAINT = {"preset": "litellm", "model": "paint", "options": {"edit_style": "none"}}
KINDS = {
    "gradio": Kind(
        ("gradio==6.31.0",),
        "app.py",
        GRADIO,
        ("python", "app.py"),
        "/config",
        (
            Case("order", _gradio(), "Done"),
            Case("the app's error", _gradio(fail=True), "ProviderError", "The model has no such style."),
            Case(
                "wrong parameter",
                _gradio(nobody=1),
                "ProviderDown",
                "takes no 'nobody'; it takes image, seconds",
            ),
            Case(
                "wrong endpoint",
                {"kind": "gradio", "options": {"endpoint": "nobody"}},
                "ProviderDown",
                "no endpoint 'nobody'; it has invert",
            ),
        ),
        {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"},
        _gradio(seconds=SLOW_SECONDS),
    ),
    "litserve": Kind(
        ("litserve==0.2.19", "pillow"),
        "app.py",
        LITSERVE,
        ("python", "app.py"),
        "/health",
        (
            Case("order", {"preset": "litserve"}, "Done"),
            Case("refused", {"preset": "litserve"}, "InvalidInput", "The picture is too small.", "refuse"),
            Case(
                "wrong path",
                {"preset": "litserve", "submit": {"url": "/nowhere"}},
                "ProviderDown",
                "HTTP 404",
            ),
        ),
    ),
    "bentoml": Kind(
        ("bentoml==1.4.40", "pillow"),
        "service.py",
        BENTOML,
        ("bentoml", "serve", "service:Invert", "--host", "127.0.0.1", "-p", "PORT"),
        "/readyz",
        (
            Case("order", {"preset": "bentoml"}, "Done"),
            Case("refused", {"preset": "bentoml"}, "InvalidInput", "The picture is too small.", "refuse"),
            Case("task", {"preset": "bentoml-task", "model": "slow"}, "Done"),
            Case(
                "task that fails", {"preset": "bentoml-task", "model": "slow"}, "ProviderError", "", "refuse"
            ),
            # It answers 404 before it has read the form, and its reset may overtake the answer.
            Case(
                "wrong path", {"preset": "bentoml", "submit": {"url": "/nowhere"}}, "ProviderDown or CutOff"
            ),
        ),
        {"BENTOML_DO_NOT_TRACK": "True"},
    ),
    "litellm": Kind(
        ("litellm[proxy]==1.80.0",),
        "config.yaml",
        LITELLM,
        (
            "litellm",
            "--config",
            "config.yaml",
            "--host",
            "127.0.0.1",
            "--port",
            "PORT",
            "--telemetry",
            "False",
        ),
        "/health/liveliness",
        (
            Case("order", _PAINT | {"secrets": {"KEY": "sk-master-1234"}}, "Done"),
            Case("wrong key", _PAINT | {"secrets": {"KEY": "sk-wrong"}}, "InvalidInput or ProviderDown"),
            Case(
                "wrong model",
                _PAINT | {"model": "nobody", "secrets": {"KEY": "sk-master-1234"}},
                "InvalidInput or ProviderDown",
                "Invalid model name",
            ),
        ),
    ),
}


def main() -> int:
    """The exit status."""
    asked = argparse.ArgumentParser(prog="bench.real_servers", description=__doc__)
    asked.add_argument("--only", choices=sorted(KINDS))
    asked.add_argument("--folder", type=Path)
    given = asked.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="darkroom-real-servers-"))
    folder.mkdir(exist_ok=True)
    try:
        wrong = sum(_hold(name, KINDS[name], folder) for name in sorted(KINDS) if given.only in (None, name))
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{wrong} not as expected" if wrong else "all as expected")
    return 1 if wrong else 0


def _hold(name: str, kind: Kind, folder: Path) -> int:
    """How many cases of a server came out otherwise than expected."""
    home = folder / name
    install(home, kind.packages)
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(OpenAi()).url
        write_app(home, kind, upstream)
        with running(home, kind) as (url, restart):
            return asyncio.run(_ask(name, kind, url, restart))


def write_app(home: Path, kind: Kind, upstream: str = "") -> None:
    """The file that the server is started with.  upstream: the address of the service behind a gateway."""
    text = textwrap.dedent(kind.text).replace("UPSTREAM", upstream).replace("SLOW", str(CASE_SECONDS))
    (home / kind.file).write_text(text, encoding="utf-8")


def install(home: Path, packages: tuple[str, ...]) -> None:
    if not (home / "bin" / "python").exists():
        venv.create(home, with_pip=True)
    pip = [
        str(home / "bin" / "python"),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "-q",
        *packages,
    ]
    subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def running(
    home: Path, kind: Kind, *, politely: bool = True
) -> Iterator[tuple[str, tuple[Callable[[], None], Callable[[], None]]]]:
    """(its address, (kill it, start it))."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(home / "bin" / kind.command[0]),
        *(each.replace("PORT", str(port)) for each in kind.command[1:]),
    ]
    own = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    environment = (
        own | kind.environment | {"PORT": str(port), "PATH": f"{home / 'bin'}:{own.get('PATH', '')}"}
    )
    url, running = f"http://127.0.0.1:{port}", list[subprocess.Popen[bytes]]()

    def begin() -> None:
        with (home / "server.log").open("ab") as log:
            running.append(
                subprocess.Popen(
                    command, cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )
            )  # fmt: skip

    def start() -> None:
        begin()
        end = time.monotonic() + START_SECONDS
        while not _answers(url + kind.ready):
            if running[-1].poll() is not None or time.monotonic() > end:
                raise SystemExit(f"It does not start; see {home / 'server.log'}.")
            time.sleep(0.2)

    def kill() -> None:
        process = running.pop()
        if politely:  # BentoML's workers outlive a killed parent, and go on to answer
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    start()
    try:
        yield url, (kill, start)
    finally:
        if running:
            kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


async def _ask(
    name: str, kind: Kind, url: str, process: tuple[Callable[[], None], Callable[[], None]]
) -> int:
    kill, start = process
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        async with Adapters(Path(scratch)) as adapters:
            for case in kind.cases:
                wrong += not await _one(name, case, adapters, _at(url, case.settings))
            adapters.progress.clear()
            order = kind.cases[0]
            if kind.slow:
                wrong += not await _killed_within(name, kind.slow, adapters, url, process)
            await asyncio.to_thread(kill)
            wrong += not await _one(
                name, Case("down", order.settings, "Unreachable"), adapters, _at(url, order.settings)
            )
            await asyncio.to_thread(start)
            back = Case("started again", order.settings, "Done")
            wrong += not await _one(name, back, adapters, _at(url, order.settings))
    return wrong


def _at(url: str, settings: dict[str, Any]) -> dict[str, Any]:
    """With the server's address in place of the preset's."""
    address = url + "/v1" if settings.get("preset") == "litellm" else url
    return settings | {"url": address, "allow_private_addresses": True}


async def _killed_within(
    name: str,
    settings: dict[str, Any],
    adapters: Adapters,
    url: str,
    process: tuple[Callable[[], None], Callable[[], None]],
) -> bool:
    """Whether an order whose server is killed in the middle of it is told apart from one that never left."""
    kill, start = process
    case = Case("killed within", settings, "CutOff")
    asking = asyncio.create_task(_one(name, case, adapters, _at(url, settings)))
    try:
        async with asyncio.timeout(SLOW_SECONDS / 2):
            while "running in the app" not in [stage for _, stage in adapters.progress]:  # noqa: ASYNC110  as told
                await asyncio.sleep(0.1)
        adapters.progress.clear()
    finally:
        await asyncio.to_thread(kill)
    good = await asking
    await asyncio.to_thread(start)
    return good


async def ended(adapters: Adapters, provider: Any, job: Job) -> Any:
    """An order from its submission to its end, asked about as often as the service wants."""
    said: Any = await adapters.submit(provider, job)
    if not isinstance(said, Accepted):
        return said
    remote, pause = said, said.poll_after_seconds
    async with asyncio.timeout(60):
        while True:
            await asyncio.sleep(pause)
            said = await adapters.poll(provider, remote, job)
            if not isinstance(said, Running):
                return said
            pause = said.poll_after_seconds


async def _one(name: str, case: Case, adapters: Adapters, settings: dict[str, Any]) -> bool:
    params = {"images": ["i-1"], "prompt": case.prompt}
    job = adapters.job(params=params, inputs=adapters.job().inputs[:1], input_keys=("uploads/i-1.png",))
    said = await ended(adapters, adapters.open(settings), job)
    error = getattr(said, "error", said)
    kind, text = type(error).__name__, "" if isinstance(said, Done) else str(error)
    good = kind in case.says.split(" or ") and case.words in text
    print(f"{'ok   ' if good else 'WRONG'} {name:9} {case.name:16} {kind:14} {text}", flush=True)
    return good and isinstance(error, ProviderError | Done)


if __name__ == "__main__":
    sys.exit(main())
