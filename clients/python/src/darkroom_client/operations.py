"""What can be done, as flows: each builds requests and reads answers, and does nothing itself."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypedDict, TypeVar
from urllib.parse import quote, urlsplit

from darkroom_client import errors, models
from darkroom_client.effects import Answer, Broken, Flow, Item, Open, Pause, Read, Request, Run
from darkroom_client.inputs import DEFAULT_NAME, Local, Source, several, told
from darkroom_client.models import Order, OutputFile, Picture, Task, Upload, Work
from darkroom_client.repeating import Setup, answered, error_of, pause_after
from darkroom_client.watching import followed, shown

T = TypeVar("T")
TaskLike = str | Order | Task | Work
INPUT_KINDS = ("images", "videos", "audio", "files")
PAGE = 100


class Members(TypedDict, total=False):
    """What an order may say, beside its type.

    images, videos, audio, files: one or several of: an upload's id, an https address, a path, bytes, an open file, an
    Upload.  What is local is uploaded first.  count: how many pictures.  scene: for types that have scenes.
    parameters: what the type declares.  priority: -10 to 0, for services to 10.  run_after: not before this time.
    webhook: an https address that is told the end.
    """

    images: Source | Iterable[Source]
    videos: Source | Iterable[Source]
    audio: Source | Iterable[Source]
    files: Source | Iterable[Source]
    prompt: str
    count: int
    scene: str
    provider: str
    parameters: Mapping[str, Any]
    priority: int
    run_after: datetime
    webhook: str


def id_of(task: TaskLike) -> str:
    return task if isinstance(task, str) else task.task_id


def new_key() -> str:
    """An `Idempotency-Key` that nothing else has."""
    return uuid.uuid4().hex


def _part(text: str) -> str:
    """A text as one part of a path."""
    return quote(text, safe="")


def _read(read: Callable[[Any], T], answer: Answer) -> T:
    """Raises UnexpectedAnswer."""
    value = answer.json()
    try:
        return read(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise errors.UnexpectedAnswer(f"The answer can't be read: {error!r}") from None


def _json_request(method: str, path: str, body: Any, **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = json.dumps(body, ensure_ascii=False).encode()
    return Request(method, path, headers={"Content-Type": "application/json", **named}, body=data)


# --- inputs and orders ---


def upload(setup: Setup, source: Source, kind: str = "files", name: str | None = None) -> Flow[Upload]:
    """Raises ValueError if it is an id or an address, which need no upload."""
    local = told(source)
    if not isinstance(local, Local):
        raise ValueError(f"{local!r} needs no upload: it is an id or an address.")
    named, data = yield Run(local.read)
    if kind == "images":  # decoded by its bytes alone, and refused at once if it is no picture
        request = Request(
            "POST", "/v1/images", headers={"Content-Type": "application/octet-stream"}, body=data
        )
    else:
        request = Request("POST", "/v1/files", file=(name or named or DEFAULT_NAME, data))
    answer = yield from answered(setup, request)
    return _read(lambda value: models.upload_of(value, setup.base), answer)


def _body(setup: Setup, type_: str, members: Members) -> Flow[dict[str, Any]]:
    """The body of an order, its inputs uploaded."""
    params: dict[str, Any] = {}
    given: Mapping[str, Any] = members
    unknown = set(given) - set(Members.__annotations__)
    if unknown:
        raise TypeError(
            f"An order has no {', '.join(sorted(unknown))}; what a type declares goes to parameters."
        )
    for kind in INPUT_KINDS:
        if kind in given:
            entries = []
            for source in several(given[kind]):
                entry = told(source)
                if isinstance(entry, Local):
                    entry = (yield from upload(setup, source, kind)).id
                entries.append(entry)
            params[kind] = entries
    for name, called in (
        ("prompt", "prompt"),
        ("count", "count"),
        ("scene", "sceneId"),
        ("provider", "provider"),
    ):
        if name in given:
            params[called] = given[name]
    if "parameters" in given:
        params["parameters"] = dict(given["parameters"])
    body: dict[str, Any] = {"type": type_, "params": params}
    for name in ("priority", "webhook"):
        if name in given:
            body[name] = given[name]
    if "run_after" in given:
        body["run_after"] = _rfc3339(given["run_after"])
    return body


def _rfc3339(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("run_after needs a time zone: datetime.now(timezone.utc) + timedelta(...), for one.")
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def order(setup: Setup, type_: str, members: Members, key: str | None) -> Flow[Order]:
    key = key or new_key()
    body = yield from _body(setup, type_, members)
    answer = yield from answered(setup, _json_request("POST", "/v1/tasks", body, Idempotency_Key=key))
    is_replay = "idempotent-replayed" in answer.headers
    return _read(lambda value: models.order_of(value, is_replay=is_replay, key=key), answer)


def estimate(setup: Setup, type_: str, members: Members) -> Flow[models.Estimate]:
    body = yield from _body(setup, type_, members)
    asked = _json_request("POST", "/v1/tasks", body)
    request = Request(asked.method, asked.path, {"estimate": "true"}, asked.headers, asked.body)
    return _read(models.estimate_of, (yield from answered(setup, request)))


# --- tasks ---


def _moved(setup: Setup, task: TaskLike, step: str, key: str | None) -> Flow[Task]:
    request = Request(
        "POST",
        f"/v1/tasks/{_part(id_of(task))}/{step}",
        headers={"Idempotency-Key": key or new_key()},
        body=b"",
    )
    answer = yield from answered(setup, request)
    return _read(lambda value: models.task_of(value, setup.base), answer)


def cancel(setup: Setup, task: TaskLike, key: str | None) -> Flow[Task]:
    return (yield from _moved(setup, task, "cancel", key))


def retry(setup: Setup, task: TaskLike, key: str | None) -> Flow[Task]:
    return (yield from _moved(setup, task, "retry", key))


def task(setup: Setup, wanted: TaskLike) -> Flow[Task]:
    return (yield from shown(setup, id_of(wanted)))


def tasks(setup: Setup, status: str | None, type_: str | None) -> Flow[None]:
    """Items: each Task, newest first."""
    query = {name: value for name, value in (("status", status), ("type", type_)) if value is not None}
    yield from _pages(setup, "/v1/tasks", query, lambda each: models.task_of(each, setup.base))


def _pages(setup: Setup, path: str, query: dict[str, str], read: Callable[[Any], Any]) -> Flow[None]:
    cursor: str | None = None
    while True:
        whole = {**query, "limit": str(PAGE), **({"cursor": cursor} if cursor else {})}
        answer = yield from answered(setup, Request("GET", path, whole))
        items, cursor = _read(lambda value: ([read(each) for each in value["items"]], value["next"]), answer)
        for item in items:
            yield Item(item)
        if not cursor:
            return


def result(setup: Setup, wanted: TaskLike, timeout_seconds: float | None) -> Flow[Task]:
    """The completed task.  Items: each state of its Work on the way.  Raises TaskFailed and StillRunning."""
    ended = yield from followed(setup, id_of(wanted), timeout_seconds)
    if ended.status == "cancelled":
        raise errors.TaskCancelled("The task was cancelled.", "cancelled", ended)
    if ended.status == "failed":
        code, message = (ended.error.code, ended.error.message) if ended.error else ("internal", "It failed.")
        raise errors.TaskFailed(message, code, ended)
    return ended


# --- files ---


def fetch(setup: Setup, link: Picture | OutputFile | str) -> Flow[bytes]:
    """The bytes of a finished file."""
    return (yield from answered(setup, _file_request(setup, link))).body


def _file_request(setup: Setup, link: Picture | OutputFile | str) -> Request:
    """Links are signed: the bearer of one needs no token, and is sent none."""
    address = link if isinstance(link, str) else link.url
    return Request("GET", address.removeprefix(setup.base), is_open=True)


def download(setup: Setup, wanted: TaskLike, folder: str | os.PathLike[str]) -> Flow[list[Path]]:
    """The files of all results of a completed task, in the folder, which is made.  A file is whole, or not there."""
    done = yield from shown(setup, id_of(wanted))  # with links that were signed just now
    yield Run(lambda: os.makedirs(folder, exist_ok=True))
    saved = []
    for n, picture in enumerate(done.images, 1):
        ending = PurePosixPath(urlsplit(picture.url).path).suffix or ".jpg"
        saved.append((picture.url, f"{done.task_id}-{n}{ending}"))
    for n, file in enumerate(done.files, len(saved) + 1):
        saved.append((file.url, f"{done.task_id}-{n}{PurePosixPath(file.name).suffix}"))
    for url, name in saved:
        yield from _save(setup, _file_request(setup, url), Path(folder, name))
    return [Path(folder, name) for _, name in saved]


def _save(setup: Setup, request: Request, path: Path) -> Flow[None]:
    until, tries = setup.now() + setup.patience_seconds, 0
    while True:
        tries += 1
        got: Answer | Broken = yield Open(request, None)
        if isinstance(got, Answer) and got.status == 200:
            broken = yield from _written(path)
            if broken is None:
                return
            got = broken
        error = error_of(got, request)
        pause = pause_after(tries, error, setup.chance())
        if pause is None or setup.now() + pause > until:
            raise error
        yield Pause(pause)


def _written(path: Path) -> Flow[Broken | None]:
    """What is read, in a file of this name; or why it could not be read to its end, and then there is no file."""
    name = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    part: BinaryIO = yield Run(partial(name.open, "xb"))
    try:
        while True:
            chunk: bytes | Broken = yield Read()
            if isinstance(chunk, Broken):
                return chunk
            if not chunk:
                break
            yield Run(partial(part.write, chunk))
        yield Run(part.close)
        yield Run(lambda: os.replace(name, path))
        return None
    finally:
        part.close()
        with contextlib.suppress(FileNotFoundError):
            name.unlink()


# --- works, credits, types ---


def works(setup: Setup) -> Flow[None]:
    """Items: each Work, newest first."""
    yield from _pages(setup, "/v1/works", {}, lambda each: models.work_of(each, setup.base))


def work(setup: Setup, work_id: str) -> Flow[Work]:
    answer = yield from answered(setup, Request("GET", f"/v1/works/{_part(work_id)}"))
    return _read(lambda value: models.work_of(value, setup.base), answer)


def delete_work(setup: Setup, work_id: str) -> Flow[None]:
    yield from answered(setup, Request("DELETE", f"/v1/works/{_part(work_id)}"), gone_is_done=True)


def credits(setup: Setup, user: str | None) -> Flow[models.Credits]:
    path = "/v1/credits" if user is None else f"/v1/credits/{_part(user)}"
    return _read(models.credits_of, (yield from answered(setup, Request("GET", path))))


def grant(setup: Setup, user: str, amount: int, reference: str) -> Flow[int]:
    body = {"amount": amount, "reference": reference}
    answer = yield from answered(setup, _json_request("POST", f"/v1/credits/{_part(user)}/grants", body))
    return _read(lambda value: int(value["balance"]), answer)


def issue_token(setup: Setup, user: str, ttl_seconds: int) -> Flow[models.IssuedToken]:
    body = {"user": user, "ttl_seconds": ttl_seconds}
    return _read(models.token_of, (yield from answered(setup, _json_request("POST", "/v1/tokens", body))))


def types(setup: Setup) -> Flow[list[dict[str, Any]]]:
    answer = yield from answered(setup, Request("GET", "/v1/types"))
    return _read(lambda value: list(value["items"]), answer)
