"""Bad input as one table: each request and its clear answer. None of it is stored."""

# ruff: noqa: E501  a table is read by its columns

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import sqlite3
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import jwt
import pytest

import actors.net.public_addresses
from actors.net.fetch import Allowed, Unfetchable, fetch, fetch_public_image
from actors.providers.base import InvalidInput
from config.settings import Settings
from supervisor.schema.migrate import HISTORY, migrate
from supervisor.security.tokens import make_user_token
from tests.support.houses.web_server import SECRET, Web, bearer, feed_of, picture_bytes

TASKS, IMAGES, CREDITS = "/v1/tasks", "/v1/images", "/v1/credits"
URL = "https://example.org/a.jpg"
JPEG = {"Content-Type": "image/jpeg"}
JSON = {"Content-Type": "application/json"}
MIB = 1024 * 1024


def order(**params: Any) -> bytes:
    """An order of photography with these params."""
    return json.dumps({"type": "photography", "params": {"images": [URL], **params}}).encode()


def bomb() -> bytes:
    """A PNG of a few hundred bytes whose header promises 900 million pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 90_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def unsigned_token() -> str:
    """`alg: none`."""
    parts = ({"alg": "none", "typ": "JWT"}, {"sub": "o-1", "role": "operator", "exp": 4_000_000_000})
    texts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return ".".join(texts) + "."


def token(header: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {header}"}


@dataclass(frozen=True)
class Bad:
    """A request, and what comes back.  says: part of the sentence; pointer: of the first mistake."""

    name: str
    path: str
    status: int
    kind: str
    says: str
    body: bytes | Callable[[], bytes] | None = None
    pointer: str | None = None
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    own_token: bool = True  # as the user o-1; headers are sent beside it


BAD = [
    Bad("not JSON", TASKS, 400, "not_json", "not JSON", b"{type: photography}"),
    Bad("no body", TASKS, 400, "not_json", "not JSON"),
    Bad("an order that says it is a form", TASKS, 415, "not_json_type", "application/json", order(), headers={"Content-Type": "application/x-www-form-urlencoded"}),
    Bad("an order that says it is text", TASKS, 415, "not_json_type", "application/json", order(), headers={"Content-Type": "text/plain; a=application/json"}),
    Bad("an order that says it is bytes", TASKS, 415, "not_json_type", "application/json", order(), headers={"Content-Type": "application/octet-stream"}),
    Bad("an order that says nothing sound", TASKS, 415, "not_json_type", "application/json", order(), headers={"Content-Type": "application/json,text/plain"}),
    Bad("a pause that says nothing", "/v1/ops/pauses", 415, "not_json_type", "application/json", b"{}", headers={"Content-Type": "text/json"} | bearer("o-1", "operator")),
    Bad("a list", TASKS, 422, "bad_params", "JSON object", b"[]", ""),
    Bad("no type", TASKS, 422, "bad_params", "required", b'{"params":{}}', "/type"),
    Bad("unknown type", TASKS, 422, "unknown_type", "there are fitting, photography", b'{"type":"x","params":{"images":["a"]}}', "/type"),
    Bad("unknown member", TASKS, 422, "bad_params", "no such member", order(scene="night"), "/params/scene"),
    Bad("unknown image id", TASKS, 422, "image_not_found", "no image 01NOTTHERE", order(images=["01NOTTHERE"]), "/params/images"),
    Bad("count 0", TASKS, 422, "bad_params", "greater than or equal to 1", order(count=0), "/params/count"),
    Bad("count 9", TASKS, 422, "bad_params", "less than or equal to 8", order(count=9), "/params/count"),
    Bad("count as text", TASKS, 422, "bad_params", "valid integer", order(count="2"), "/params/count"),
    Bad("count 10^30", TASKS, 422, "bad_params", "less than or equal to 8", order(count=10**30), "/params/count"),
    Bad("count 1.5", TASKS, 422, "bad_params", "valid integer", order(count=1.5), "/params/count"),
    Bad("unknown scene", TASKS, 422, "bad_params", "there are studio, sunset, night", order(sceneId="moon"), "/params/sceneId"),
    Bad("too many images", TASKS, 422, "bad_params", "at most 1 item", order(images=[URL, URL]), "/params/images"),
    Bad("a local URL", TASKS, 422, "bad_params", "https URL", order(images=["http://127.0.0.1/a.jpg"]), "/params/images/0"),
    Bad("a file URL", TASKS, 422, "bad_params", "https URL", order(images=["file:///etc/passwd"]), "/params/images/0"),
    Bad("a URL with a password", TASKS, 422, "bad_params", "https URL", order(images=["https://u:p@example.org/"]), "/params/images/0"),
    Bad("NUL in a string", TASKS, 422, "bad_params", "NUL", order(prompt="a\0b"), "/params/prompt"),
    Bad("a lone surrogate", TASKS, 422, "bad_params", "surrogate", order(prompt="\ud800"), "/params/prompt"),
    Bad("a long prompt", TASKS, 422, "bad_params", "at most 4000 characters", order(prompt="x" * 4001), "/params/prompt"),
    Bad("a priority of an operator", TASKS, 422, "bad_params", "only lower", b'{"type":"photography","params":{"images":["https://a.example/"]},"priority":1}', "/priority"),
    Bad("a time that is none", TASKS, 422, "bad_params", "RFC 3339", b'{"type":"photography","params":{"images":["https://a.example/"]},"run_after":"tomorrow"}', "/run_after"),
    Bad("a 50 MB order", TASKS, 413, "", "larger than is accepted", lambda: b'"' + b"x" * 50 * MIB + b'"'),
    Bad("a 50 MB picture", IMAGES, 413, "too_many_bytes", "20,971,520 bytes", lambda: b"x" * 50 * MIB, headers=JPEG),
    Bad("a text file as image", IMAGES, 415, "not_a_picture", "not a picture", b"Dear Sir or Madam", headers=JPEG),
    Bad("a text file said to be text", IMAGES, 415, "not_a_picture", "not a picture", b"Dear Sir", headers={"Content-Type": "text/plain"}),
    Bad("a decompression bomb", IMAGES, 422, "image_unusable", "far more pixels than are accepted", bomb, "/image", headers=JPEG),
    Bad("a truncated JPEG", IMAGES, 422, "image_unusable", "damaged", lambda: picture_bytes(size=(400, 300))[:900], "/image", headers=JPEG),
    Bad("an empty picture", IMAGES, 415, "not_a_picture", "not a picture", b"", headers=JPEG),
    Bad("a form without a picture", IMAGES, 422, "bad_params", "no field 'image'", b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x--\r\n", "/image", headers={"Content-Type": "multipart/form-data; boundary=x"}),
    Bad("a form with broken heads", IMAGES, 422, "bad_params", "broken", b"--x\r\nContent-Disposition: form-data; name=\"\x16\x0e\"\r\n\r\n1\r\n--x--\r\n", "/image", headers={"Content-Type": "multipart/form-data; boundary=x"}),
    Bad("a form without an end", IMAGES, 422, "bad_params", "form", b"7.4--x--\r\n", "/image", headers={"Content-Type": "multipart/form-data; boundary=x"}),
    Bad("an expired token", CREDITS, 401, "unauthorized", "expired", method="GET", own_token=False, headers=token(make_user_token(SECRET, "o-1", ttl_seconds=-60))),
    Bad("a forged token", CREDITS, 401, "unauthorized", "not one of ours", method="GET", own_token=False, headers=token(jwt.encode({"sub": "o-1", "exp": 4_000_000_000}, "another secret of a good length!", "HS256"))),
    Bad("a token with alg none", CREDITS, 401, "unauthorized", "not one of ours", method="GET", own_token=False, headers=token(unsigned_token())),
    Bad("a token without an end", CREDITS, 401, "unauthorized", "'exp'", method="GET", own_token=False, headers=token(jwt.encode({"sub": "o-1"}, SECRET, "HS256"))),
    Bad("a token of no user", CREDITS, 401, "unauthorized", "'sub'", method="GET", own_token=False, headers=token(jwt.encode({"sub": "", "exp": 4_000_000_000}, SECRET, "HS256"))),
    Bad("a foreign Host", CREDITS, 403, "forbidden", "Host", method="GET", own_token=False, headers={"Host": "evil.example"}),
    Bad("a foreign Origin", CREDITS, 403, "forbidden", "foreign page", method="GET", own_token=False, headers={"Origin": "https://evil.example"}),
    Bad("a foreign site", CREDITS, 403, "forbidden", "foreign site", method="GET", own_token=False, headers={"Sec-Fetch-Site": "cross-site"}),
    Bad("a proxy", CREDITS, 403, "forbidden", "proxy", method="GET", own_token=False, headers={"X-Forwarded-For": "10.0.0.1"}),
    Bad("to act for another user", CREDITS, 403, "forbidden", "'service'", method="GET", headers={"X-User": "o-2"}),
    Bad("a link that was made up", "/files/results/a.jpg?exp=4000000000&sig=AAAAAAAAAAAAAAAAAAAAAAAA", 403, "bad_link", "altered or has expired", method="GET"),
    Bad("a link without a signature", "/files/results/a.jpg", 403, "bad_link", "altered", method="GET"),
    Bad("a path that climbs", "/files/%2e%2e/%2e%2e/darkroom.db?exp=4000000000&sig=x", 403, "bad_link", "altered", method="GET"),
    Bad("an absolute path", "/files/%2Fetc%2Fpasswd?exp=4000000000&sig=x", 403, "bad_link", "altered", method="GET"),
    Bad("an unknown task", f"{TASKS}/01NOTTHERE", 404, "not_found", "no task", method="GET"),
    Bad("a task's id that is none", f"{TASKS}/a%20b", 404, "not_found", "no task", method="GET"),
    Bad("an unknown work", "/v1/works/01NOTTHERE", 404, "not_found", "no work", method="DELETE"),
    Bad("an unknown address", "/v1/nothing", 404, "", "nothing at this address", method="GET"),
    Bad("a method that is not there", TASKS, 405, "", "possible is GET, HEAD, POST", method="PUT"),
    Bad("a bad limit", f"{TASKS}?limit=0", 422, "bad_params", "1 to 100", pointer="/limit", method="GET"),
    Bad("a bad cursor", f"{TASKS}?cursor=x", 422, "bad_params", "'next'", pointer="/cursor", method="GET"),
    Bad("a bad status", f"{TASKS}?status=done", 422, "bad_params", "one of", pointer="/status", method="GET"),
    Bad("a bad wait", "/v1/works/changes?wait=26", 422, "bad_params", "0 to 25", pointer="/wait", method="GET"),
    Bad("a bad key", TASKS, 422, "bad_params", "visible characters", order(), "/Idempotency-Key", headers={"Idempotency-Key": "a,b"}),
]  # fmt: skip


async def _send(http: aiohttp.ClientSession, web: Web, bad: Bad) -> tuple[int, Any]:
    """The answer; a server may say no before it has read a body that is too long."""
    body = bad.body() if callable(bad.body) else bad.body
    own = bearer("o-1") if bad.own_token else {}
    headers = own | (JSON if bad.path == TASKS and body else {}) | bad.headers
    url = aiohttp.client.URL(web.url + bad.path, encoded=True)
    async with http.request(bad.method, url, data=body, headers=headers) as response:
        assert response.content_type == "application/problem+json"
        return response.status, await response.json(content_type=None)


@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
async def test_bad_input_has_a_clear_answer(web: Web, http: aiohttp.ClientSession, bad: Bad) -> None:
    status, problem = await _send(http, web, bad)
    assert status == bad.status == problem["status"], problem
    assert problem["type"] == (f"urn:darkroom:problem:{bad.kind}" if bad.kind else "about:blank"), problem
    sentences = " ".join([problem["detail"], *(each["detail"] for each in problem.get("errors", []))])
    assert bad.says in sentences
    if bad.pointer is not None:
        assert problem["errors"][0]["pointer"] == bad.pointer
    assert web.sql("SELECT (SELECT count(*) FROM task_queue), (SELECT count(*) FROM image)") == [(0, 0)]


async def test_another_users_image_looks_like_none(web: Web, http: aiohttp.ClientSession) -> None:
    headers = bearer("o-2") | JPEG
    async with http.post(web.url + IMAGES, data=picture_bytes(), headers=headers) as response:
        theirs = (await response.json())["id"]
    bad = Bad("", TASKS, 422, "image_not_found", "", order(images=[theirs]))
    status, problem = await _send(http, web, bad)
    assert status == 422 and problem["type"].endswith("image_not_found")
    unknown = await _send(http, web, Bad("", TASKS, 422, "", "", order(images=["0" * 26])))
    assert problem["detail"].replace(theirs, "0" * 26) == unknown[1]["detail"]


async def test_a_token_of_another_user_finds_nothing(web: Web, http: aiohttp.ClientSession) -> None:
    async with http.post(web.url + TASKS, data=order(), headers=bearer("o-1") | JSON) as response:
        task = (await response.json())["urls"]["task"]
    for method, path in (("GET", task), ("POST", task + "/cancel"), ("POST", task + "/retry")):
        async with http.request(method, web.url + path, headers=bearer("o-2")) as response:
            assert response.status == 404


async def test_a_real_link_that_was_altered_or_has_expired_is_403(
    web: Web, http: aiohttp.ClientSession
) -> None:
    headers = bearer("o-1") | JPEG
    async with http.post(web.url + IMAGES, data=picture_bytes(), headers=headers) as response:
        link = (await response.json())["url"]
    async with http.get(web.url + link) as response:
        assert response.status == 200
    key = link.partition("?")[0].removeprefix("/files/")
    expired = web.context.links.link(key, now=time.time() - 2 * web.settings.file_link_seconds)
    last = "A" if link[-1] != "A" else "B"
    for altered in (expired, link[:-1] + last, link.replace("exp=", "exp=9"), link.replace(".jpg", ".png")):
        async with http.get(web.url + altered) as response:
            assert response.status == 403 and (await response.json())["type"].endswith("bad_link")


@pytest.mark.parametrize(
    "place", ["nonsense", "0", "-", "abcdef-1", "{epoch}-999", "{epoch}--1", "{epoch}-1e3"]
)
async def test_an_unknown_last_event_id_is_a_reset_never_silence(
    web: Web, http: aiohttp.ClientSession, place: str
) -> None:
    await web.context.ensure_account("o-1")
    epoch = web.sql("SELECT epoch FROM account")[0][0]
    async with feed_of(http, web, "o-1", last_event_id=place.format(epoch=epoch)) as feed:
        first = await feed.next()
    assert first is not None and first.event == "reset"
    since = {"since": place.format(epoch=epoch)}
    async with http.get(web.url + "/v1/works/changes", params=since, headers=bearer("o-1")) as response:
        assert response.status == 200 and (await response.json())["type"] == "reset"


def test_a_decompression_bomb_is_small_to_send() -> None:
    assert len(bomb()) < 1000


@pytest.mark.parametrize(
    "address",
    [
        "https://127.0.0.1/a.jpg",
        "https://[::1]/a.jpg",
        "https://localhost/a.jpg",
        "https://2130706433/a.jpg",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::ffff:10.0.0.1]/a.jpg",
    ],
)
async def test_a_worker_fetches_nothing_from_its_own_network(address: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await fetch_public_image(address, whose="o-1", most_bytes=0)
    assert refused.value.code == "image_not_found"


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "http://169.254.169.254/", "ftp://127.0.0.1/a", "https://["]
)
async def test_where_a_redirect_leads_is_judged_like_the_address_itself(
    monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """The first address passes here, as a public one would; the target of its redirect does not."""

    async def lead_away(_: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(status=302, headers={"Location": target})

    monkeypatch.setattr(actors.net.public_addresses, "is_public", lambda address: address == "127.0.0.1")
    app = aiohttp.web.Application()
    app.router.add_get("/a.jpg", lead_away)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    try:
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}/a.jpg"
        with pytest.raises(Unfetchable):
            await fetch(address, most_bytes=0, allowed=Allowed(("http",)))
    finally:
        await runner.cleanup()


# --- set-ups that can't work: one sentence, exit status 2 ---


def _darkroom(folder: Path, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    clean |= {"DARKROOM_CONFIG": "", "DARKROOM_DATA_DIR": str(folder), "DARKROOM_PORT": "0"} | environ
    command = [str(Path(sys.executable).with_name("darkroom")), *argv]
    return subprocess.run(command, env=clean, cwd=folder, capture_output=True, text=True, timeout=60)


def _one_sentence(done: subprocess.CompletedProcess[str], *parts: str, status: int = 2) -> None:
    assert done.returncode == status, done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.mark.parametrize("command", ["web", "up"])
def test_a_port_that_is_no_number_is_said(tmp_path: Path, command: str) -> None:
    _one_sentence(_darkroom(tmp_path, command, DARKROOM_PORT="abc"), "DARKROOM_PORT", "abc")


@pytest.mark.parametrize("command", ["web", "up"])
def test_a_port_that_is_taken_is_said(tmp_path: Path, command: str) -> None:
    migrate(Settings(data_dir=tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        _one_sentence(_darkroom(tmp_path, command, DARKROOM_PORT=port), "DARKROOM_PORT", port)


@pytest.mark.parametrize("command", ["migrate", "up"])
def test_a_data_folder_that_can_not_be_written_is_said(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("here is no folder")
    done = _darkroom(tmp_path, command, DARKROOM_DATA_DIR=str(tmp_path / "file" / "data"))
    _one_sentence(done, "DATA_DIR", str(tmp_path / "file"))


@pytest.mark.parametrize("command", ["web", "up"])
def test_a_newer_database_is_refused(tmp_path: Path, command: str) -> None:
    migrate(Settings(data_dir=tmp_path))
    with contextlib.closing(sqlite3.connect(tmp_path / "darkroom.db")) as plain:
        columns = [row[1] for row in plain.execute(f"PRAGMA table_info({HISTORY})")]
        newest = dict(zip(columns, plain.execute(f"SELECT * FROM {HISTORY}").fetchall()[-1], strict=True))
        newest |= {"id": 9999, "name": "9999_from_the_future"}
        marks = ",".join("?" * len(columns))
        plain.execute(f"INSERT INTO {HISTORY} VALUES ({marks})", [newest[name] for name in columns])
        plain.commit()
    _one_sentence(_darkroom(tmp_path, command), "newer Darkroom", "9999_from_the_future")


def test_an_older_database_is_refused_by_a_part_and_upgraded_by_migrate(tmp_path: Path) -> None:
    migrate(Settings(data_dir=tmp_path))
    with contextlib.closing(sqlite3.connect(tmp_path / "darkroom.db")) as plain:
        plain.execute(f"DELETE FROM {HISTORY} WHERE name = '0002_idempotency'")
        plain.execute("DROP TABLE idempotency_key")
        plain.commit()
    _one_sentence(_darkroom(tmp_path, "web"), "0002_idempotency", "darkroom migrate", status=1)
    assert _darkroom(tmp_path, "migrate").returncode == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "darkroom.db")) as plain:
        assert plain.execute("SELECT count(*) FROM idempotency_key").fetchone() == (0,)
