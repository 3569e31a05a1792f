"""The program that lets a provider make one picture and reports each step: `python -m actors.entry.try_provider NAME`.

`darkroom doctor --provider NAME` runs it, since it imports nothing of this package.  The call is real, at the service's
price; no task, credit or row is touched.  Exit status 0, 1 if no picture came, 2 for wrong settings.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from actors.files.scratch import Scratch
from actors.providers.base import (
    Accepted,
    Done,
    Failed,
    InvalidInput,
    Job,
    Postponed,
    Provider,
    ProviderError,
    ReadsReports,
    Report,
    Transient,
)
from actors.providers.common.answers import Answer
from actors.providers.common.exchanges import Exchange, picture_paths, sample_of, shape_of, watching
from actors.registry.adapters import check_provider, open_provider
from config.declarations import declared_types
from config.load_settings import SettingsError, load_settings
from config.provider import Provider as ProviderSettings
from config.settings import Settings, is_loopback
from supervisor.core.errors import Fault, SettingFault
from supervisor.objects.object_store import FileStore
from supervisor.objects.open_store import open_file_store
from supervisor.pictures.process_pool import ImageProcesses
from supervisor.store.remote import remote_reports
from supervisor.telemetry.logs import configure_logs
from supervisor.telemetry.secret_filter import secret_filter

MOST_REPORT_BYTES = 1_048_576
MOST_BODY_BYTES = 4000
WHAT_TO_DO = {
    "Transient": "The service is in trouble or can't be reached: look at its address, then try again.",
    "RateLimited": "The service wants fewer requests: see `limits.rps`.",
    "NotReady": "The service is starting, or no server is behind its gateway: wait, and look at its log.",
    "Unreachable": "No server answers at the address: is the service started, and are `url` and its port right?",
    "CutOff": "The service went away in the middle of it: look at its log.",
    "ProviderError": "See what it answered, below.",
    "AtCapacity": "The service is full: see `limits.concurrency`.",
    "ProviderDown": "The service refuses every job: look at the key, the account, the model and the address.",
    "InvalidInput": "The service does not take this order: look at `submit.body`, `options` and the pictures.",
    "ContentRejected": "The service refuses this content: try other pictures or another prompt.",
    "Lost": "The service does not know its own job: look at `id` and at `poll.url`.",
    "Ambiguous": "The service is in trouble and may have done the job all the same: look at its own list of jobs.",
    "UnknownOutcome": "It is unknown whether the service did the job: look at its own list of jobs.",
    "ResultLost": "The service did the job, but its pictures can't be had: see `allow_private_addresses`, `result`.",
}


def _what_to_do(error: ProviderError, *, is_drawn: bool) -> str:
    """Advice for an error; first about the address, if it leads nowhere.  is_drawn: the input was our own drawing."""
    if is_drawn and isinstance(error, InvalidInput):
        return f"{WHAT_TO_DO['InvalidInput']}  The picture was a drawing; name a photo of yours with --image FILE."
    if "HTTP 404" in error.message or "HTTP 405" in error.message:
        return (
            "Nothing takes this at the address: look at `url` and the path first, then at the model's name."
        )
    return WHAT_TO_DO.get(type(error).__name__, "")


@dataclasses.dataclass(frozen=True)
class _House:
    settings: Settings
    images: ImageProcesses
    files: FileStore


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    asked = _arguments(arguments)
    try:
        settings = load_settings()
        configure_logs(settings, "doctor")
        check_provider(asked.name, settings)
        return asyncio.run(_try(asked, settings))
    except (SettingsError, SettingFault) as error:
        print(error, file=sys.stderr)
        return 2


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="actors.entry.try_provider")
    parser.add_argument("name")
    parser.add_argument("--image", action="append", type=Path, default=[])
    parser.add_argument("--prompt", default="a portrait by the sea, in the evening")
    parser.add_argument("--type", default=next(iter(declared_types())))
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


async def _try(asked: argparse.Namespace, settings: Settings) -> int:
    steps = _Steps(settings, as_json=asked.json)
    with watching() as seen:
        status = await _try_watched(asked, settings, steps, seen)
    steps.end(status, seen)
    return status


async def _try_watched(
    asked: argparse.Namespace, settings: Settings, steps: _Steps, seen: list[Exchange]
) -> int:
    setting = settings.providers[asked.name]
    where = f" at {setting.url}" if setting.url else ""
    steps.well("settings", f"{asked.name} is of kind {setting.kind}{where}")
    images = ImageProcesses(1)
    folder = Path(tempfile.mkdtemp(prefix="darkroom-doctor-"))
    try:
        house = _House(settings, images, open_file_store(settings))
        provider = open_provider(asked.name, house)
        try:
            async with asyncio.timeout(asked.seconds):
                done = await _order(provider, asked, _job(asked, folder), setting, steps)
        finally:
            await provider.close()
        for image in done.images:
            out = asked.out or Path(f"{asked.name}{image.path.suffix}")
            shutil.copyfile(image.path, out)
            steps.well("picture", f"{image.width} × {image.height}, saved as {out}")
        return 0
    except ProviderError as error:
        steps.wrong(type(error).__name__, f"{error} {_what_to_do(error, is_drawn=not asked.image)}")
        steps.teach(seen)
    except TimeoutError:
        steps.wrong("time", f"No picture came within {asked.seconds:g} s.")
    except (Fault, OSError) as error:
        steps.wrong("here", str(error))
    finally:
        await images.close()
        shutil.rmtree(folder, ignore_errors=True)
    return 1


async def _order(
    provider: Provider, asked: argparse.Namespace, job: Job, setting: ProviderSettings, steps: _Steps
) -> Done:
    """One picture, from a provider of any kind.  Raises ProviderError."""
    steps.well("request", "asking for one picture; this is a real call, and costs what the service asks")
    is_here = is_loopback(urlsplit(setting.url).hostname or "")
    if isinstance(provider, ReadsReports) and setting.mode == "callback" and is_here:
        async with _reports() as (address, reports):
            job = dataclasses.replace(job, callback_url=address)
            return await _ended(provider, await provider.submit(job, steps.progress), job, steps, reports)
    said = await provider.submit(job, steps.progress)
    if isinstance(said, Accepted) and isinstance(provider, ReadsReports):
        steps.well(
            "report",
            "not tried: the service is on another host and could not reach this command; it is asked",
        )
    return await _ended(provider, said, job, steps, None)


async def _ended(
    provider: Provider, said: Done | Accepted, job: Job, steps: _Steps, reports: asyncio.Queue[Report] | None
) -> Done:
    if isinstance(said, Done):
        return said
    steps.well("accepted", f"the service calls the job {said.remote_id}")
    if reports is not None and isinstance(provider, ReadsReports):
        return await _reported(provider, said, job, steps, reports)
    await asyncio.sleep(said.poll_after_seconds)
    return await _polled(provider, said, job, steps)


@contextlib.asynccontextmanager
async def _reports() -> AsyncIterator[tuple[str, asyncio.Queue[Report]]]:
    """An address on this host for the service's reports, and the reports themselves."""
    came: asyncio.Queue[Report] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            came.put_nowait(Report(headers, await request.read()))
        except web.HTTPRequestEntityTooLarge:
            came.put_nowait(Report(remote_reports.TOO_LARGE, b""))
            raise
        return web.json_response({})

    app = web.Application(client_max_size=MOST_REPORT_BYTES)
    app.router.add_post("/report", take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/report", came
    finally:
        await runner.cleanup()


async def _reported(
    provider: Any, remote: Accepted, job: Job, steps: _Steps, reports: asyncio.Queue[Report]
) -> Done:
    """The content of the service's report.  Raises ProviderError."""
    later = dataclasses.replace(job, inputs=(), input_keys=())
    while True:
        report = await reports.get()
        steps.well("report", f"the service has reported, {len(report.body)} bytes")
        said = await provider.parse_callback(remote, later, report)
        if isinstance(said, Done):
            return said
        if isinstance(said, Failed):
            raise said.error
        if said.poll_after_seconds == 0:
            return await _polled(provider, remote, job, steps)


async def _polled(provider: Provider, remote: Accepted, job: Job, steps: _Steps) -> Done:
    later = dataclasses.replace(job, inputs=(), input_keys=())
    while True:
        pause = 5.0
        try:
            said = await provider.poll(remote, later)
        except (Transient, Postponed) as error:
            steps.well("poll", f"nothing learned: {error}")
        else:
            if isinstance(said, Done):
                return said
            if isinstance(said, Failed):
                raise said.error
            steps.progress(said.progress, said.stage or "running")
            pause = said.poll_after_seconds
        await asyncio.sleep(pause)


def _job(asked: argparse.Namespace, folder: Path) -> Job:
    given = asked.image or [_drawn(folder)]
    name = f"doctor-{secrets.token_hex(6)}"
    return Job(
        task_id=name,
        type=asked.type,
        params={
            "images": [path.name for path in given],
            "prompt": asked.prompt,
            "sceneId": "studio",
            "count": 1,
        },
        inputs=tuple(given),
        pictures=(0,),
        count=1,
        seed=secrets.randbelow(2**31),
        scratch=Scratch(folder),
        ai_timeout_seconds=asked.seconds,
        input_keys=(None,) * len(given),
        reference=f"{name}.1.1.0",
    )


def _drawn(folder: Path) -> Path:
    """The input if none is given: a face drawn with two circles and a line."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (768, 1024), (214, 222, 230))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((234, 180, 534, 560), fill=(224, 188, 160))
    draw.rounded_rectangle((134, 600, 634, 1100), 120, fill=(60, 84, 120))
    for x in (324, 444):
        draw.ellipse((x - 18, 330, x + 18, 360), fill=(40, 40, 40))
    draw.line((334, 460, 434, 460), fill=(150, 70, 70), width=10)
    path = folder / "drawn.png"
    picture.save(path)
    return path


def _as_text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _told(answer: Answer) -> str:
    """The body of a bad answer; the structure of a good one, and the place of a picture in it."""
    if answer.status >= 400 or answer.document is None:
        return answer.body[:MOST_BODY_BYTES].decode("utf-8", "replace") or "(nothing)"
    lines = shape_of(answer.document)
    places = picture_paths(answer.document)
    if places:
        lines += ["", *(f'A picture stands at `{place}`: set result = ["{place}"].' for place in places)]
    return "\n".join(lines)


class _Steps:
    """Prints each step on a line, with the seconds since the start, and never a secret."""

    def __init__(self, settings: Settings, *, as_json: bool = False) -> None:
        self._hide, self._as_json = secret_filter(settings), as_json
        self._said: list[dict[str, Any]] = []
        self._started = time.monotonic()
        self._last = ""

    def well(self, step: str, sentence: str) -> None:
        self._say("ok   ", step, sentence)

    def wrong(self, step: str, sentence: str) -> None:
        self._say("WRONG", step, sentence)

    def progress(self, percent: int | None, stage: str) -> None:
        """A provider's progress; equal reports in a row are printed once."""
        sentence = stage if percent is None else f"{percent} %, {stage}"
        if sentence != self._last:
            self._last = sentence
            self._say("     ", "progress", sentence)

    def teach(self, seen: list[Exchange]) -> None:
        """The request and the answer: its structure, or its text."""
        if not seen or self._as_json:
            return
        last = seen[-1]
        print(self._hide(f"\nThis was sent:\n{_as_text(sample_of(last.request))}"))
        print(self._hide(f"\nThis came back, HTTP {last.answer.status}:\n{_told(last.answer)}"))

    def end(self, status: int, seen: list[Exchange]) -> None:
        """Everything at once, for programs."""
        if not self._as_json:
            return
        told: dict[str, Any] = {"well": status == 0, "steps": self._said}
        if seen:
            answer = seen[-1].answer
            told["request"] = sample_of(seen[-1].request)
            told["answer"] = {"status": answer.status, "shape": shape_of(answer.document)}
            told["pictures_at"] = picture_paths(answer.document)
        print(self._hide(_as_text(told)))

    def _say(self, mark: str, step: str, sentence: str) -> None:
        seconds = time.monotonic() - self._started
        if self._as_json:
            is_well = None if step == "progress" else mark.strip() == "ok"
            self._said.append(
                {"step": step, "well": is_well, "seconds": round(seconds, 3), "sentence": sentence}
            )
            return
        print(self._hide(f"{mark} {seconds:6.1f} s  {step:10} {sentence.strip()}"), flush=True)


if __name__ == "__main__":
    sys.exit(main())
