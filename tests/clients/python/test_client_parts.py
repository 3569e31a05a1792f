"""The parts of our client for Python that do no I/O, each by itself."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import darkroom_client as api
import pytest
from darkroom_client.effects import Answer, Broken, GetToken, Open, Pause, Request, Send
from darkroom_client.event_stream import StreamParser
from darkroom_client.inputs import Local, several, told
from darkroom_client.repeating import Setup, answered, pause_after
from darkroom_client.sending import arguments
from darkroom_client.watching import Watch
from hypothesis import given
from hypothesis import strategies as st

from supervisor.webhooks.signature import signed_headers

STREAM = (
    "\ufeffretry: 2140\n\nid: e-1\nevent: init\ndata: {\"a\":\ndata: 1}\n\n:\n\nid: e-2\r\nevent: change\r\n"
    "data: 图片 ✓\r\n\r\ndata: x\r\rid: e-3\n\nevent: bye\ndata: {}\n\ndata: not ended"
).encode()  # fmt: skip


def _events(*chunks: bytes) -> tuple[list[tuple[str, str, str]], int | None]:
    parser = StreamParser()
    found = [(each.name, each.id, each.data) for chunk in chunks for each in parser.feed(chunk)]
    return found, parser.retry_ms


@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_a_stream_is_read_the_same_wherever_its_bytes_are_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[a:b] for a, b in itertools.pairwise(places)]
    assert _events(*chunks) == (
        [
            ("init", "e-1", '{"a":\n1}'),
            ("change", "e-2", "图片 ✓"),
            ("message", "e-2", "x"),
            ("bye", "e-3", "{}"),
        ],
        2140,
    )


class Script:
    """What a flow is answered with, and the time that it takes."""

    def __init__(self, *answers: Answer | Broken, patience: float = 60.0) -> None:
        self.now, self.sent, self.answers = 0.0, 0, list(answers)
        self.setup = Setup("http://x", None, patience, now=lambda: self.now, chance=lambda: 1.0)

    def run(self, request: Request | None = None) -> Answer:
        flow = answered(self.setup, request or Request("POST", "/v1/tasks"))
        told: Any = None
        while True:
            try:
                effect = flow.send(told)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            told = None
            if isinstance(effect, Send):
                self.sent += 1
                told = self.answers.pop(0) if self.answers else Broken("gone")
            elif isinstance(effect, Pause):
                self.now += effect.seconds
            elif isinstance(effect, GetToken):
                told = "t"


def _no(status: int, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"type": "urn:darkroom:problem:why", "detail": "A sentence.", "status": status}
    return Answer(status, named, json.dumps(body).encode())


OK = Answer(202, {}, b"{}")


def test_retry_after_is_waited_for_and_never_cut_short() -> None:
    script = Script(_no(503, retry_after="7"), _no(429, retry_after="20"), OK)
    assert script.run() is OK and 27 <= script.now <= 30


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 422, 500])
def test_what_a_repeat_would_not_change_is_raised_at_once(status: int) -> None:
    script = Script(_no(status))
    with pytest.raises(api.Refused, match="A sentence") as raised:
        script.run()
    assert script.sent == 1 and (raised.value.status, raised.value.code) == (status, "why")


def test_a_wait_beyond_the_patience_is_not_begun() -> None:
    script = Script(_no(503, retry_after="61", x_request_id="r-1"))
    with pytest.raises(api.Unavailable) as raised:
        script.run()
    assert script.now == 0 and (raised.value.retry_after, raised.value.request_id) == (61, "r-1")


def test_a_server_that_is_away_is_asked_a_bounded_number_of_times() -> None:
    script = Script()
    with pytest.raises(api.ConnectionFailed, match="gone") as raised:
        script.run(Request("POST", "/v1/tasks", headers={"Idempotency-Key": "k"}))
    assert 8 <= script.sent <= 12 and 30 <= script.now <= 60 and raised.value.key == "k"


@given(st.integers(1, 30), st.floats(0, 1))
def test_pauses_grow_to_a_bound(tries: int, chance: float) -> None:
    pause = pause_after(tries, api.ConnectionFailed(""), chance)
    assert pause is not None and 0.1 < pause <= 8


# --- what a stranger gives ---


def test_a_token_that_was_read_from_a_file_is_sent_and_no_secret_stands_in_an_error() -> None:
    sent = arguments("http://x", Request("GET", "/"), "abc.def\n", 1)
    assert sent["headers"]["Authorization"] == b"Bearer abc.def"
    for token, key in (("secret\nx", "k"), ("t", "secret\x00")):
        with pytest.raises(ValueError, match="control character") as raised:
            arguments("http://x", Request("POST", "/", headers={"Idempotency-Key": key}), token, 1)
        assert "secret" not in str(raised.value)


def test_a_service_acts_for_a_user_of_any_name() -> None:
    request = Setup("http://x", "用户-7").stamped(Request("GET", "/"))
    assert arguments("http://x", request, "t", 1)["headers"]["X-User"] == "用户-7".encode()


@pytest.mark.parametrize(
    "address",
    [
        "", "pictures.example.com", "https://", "http://[::1", "http://a..example", f"http://{'a' * 64}.example",
        "https://u:p@pictures.example.com", "https://pictures.example.com/?a=1", "ftp://pictures.example.com",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_named_at_once(address: str) -> None:
    with pytest.raises(ValueError, match="The address of Darkroom"):
        api.Darkroom(address)


def test_addresses_that_are_right_are_taken() -> None:
    for address in (
        "HTTPS://Pictures.example.com/",
        "http://[::1]:8000",
        "http://10.0.0.1:1/below",
        "http://影.example",
    ):
        api.Darkroom(address).close()


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    for name in (b"\xff\xfe.bin", "图片 ✓.png".encode(), b"scan-1:10.png"):
        path = tmp_path / os.fsdecode(name)
        path.write_bytes(b"x")
        local = told(str(path) if b":" not in name else os.fsdecode(name))
        assert isinstance(local, Local)
        called, _ = Local(path).read()
        assert called.encode().endswith(name[-4:])
    for address in ("http://x.example/a.png", "DATA:image/png;base64,AA", "s3://bucket/a"):
        with pytest.raises(ValueError, match="https address"):
            told(address)
    assert told("HTTPS://x.example/a.png") == "HTTPS://x.example/a.png"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_of_any_kind_are_one_input(kind: Any) -> None:
    assert several(kind(b"abc")) == [kind(b"abc")]
    local = told(kind(b"abc"))
    assert isinstance(local, Local) and local.read() == ("upload", b"abc")


def test_what_can_not_be_an_input_is_named_and_so_is_a_file_of_text(tmp_path: Path) -> None:
    for wrong in (None, 7, {"url": "https://x.example"}, 1.5):
        with pytest.raises(TypeError, match=type(wrong).__name__):
            told(wrong)  # type: ignore[arg-type]
    path = tmp_path / "notes.txt"
    path.write_text("words")
    with path.open() as text:
        local = told(text)  # type: ignore[arg-type]
        assert isinstance(local, Local)
        with pytest.raises(TypeError, match="opened for bytes"):
            local.read()


# --- a watch ---


class Outage:
    """A watch whose server does what the script says, and then is away."""

    def __init__(self, *answers: Answer | Broken | bytes, **more: Any) -> None:
        self.now, self.opened, self.answers = 0.0, 0, list(answers)
        setup = Setup("http://x", None, now=lambda: self.now, chance=lambda: 0.0)
        self.watch = Watch(setup, **more)

    def more(self) -> Any:
        flow = self.watch.more()
        told: Any = None
        while True:
            try:
                effect = flow.send(told)
            except StopIteration as end:
                return end.value
            self.opened += isinstance(effect, Open)
            if isinstance(effect, Pause):
                self.now += effect.seconds
                told = None
            elif isinstance(effect, GetToken):
                told = "t"
            else:
                told = self.answers.pop(0) if self.answers else Broken("away")


STREAMING = Answer(200, {"content-type": "text/event-stream"})
INIT = b'id: e-1\nevent: init\ndata: {"docs": []}\n\n'


def test_a_watch_whose_reader_was_slow_tries_again_before_it_gives_up() -> None:
    outage = Outage(STREAMING, INIT, Broken("cut"), STREAMING, INIT)
    assert outage.more()[0].kind == "init"
    outage.now += 10_000  # what the reader did with it
    assert outage.more()[0].kind == "init" and outage.opened == 2
    with pytest.raises(api.ConnectionFailed):
        outage.more()
    assert 10_600 <= outage.now <= 10_640


def test_a_watch_does_not_wait_for_an_hour_that_is_longer_than_its_outage() -> None:
    outage = Outage(_no(503, retry_after="3600"))
    with pytest.raises(api.Unavailable):
        outage.more()
    assert outage.now == 0
    patient = Outage(_no(503, retry_after="3600"), STREAMING, INIT, outage_seconds=None)
    assert patient.more()[0].kind == "init" and patient.now == 3600


# --- webhooks ---

KEY, OTHER = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
TASK = {
    "task_id": "t", "work_id": "w", "type": "poster", "status": "completed", "stage": "done", "progress": 100,
    "queue_position": None, "eta_seconds": None, "attempt": 1, "max_attempts": 3, "error": None,
    "result": {"images": [{"url": "/files/a.jpg?sig=x", "width": 4, "height": 3, "thumbnail": None}]},
    "created_at": "2026-11-26T02:36:30.000Z", "started_at": None, "finished_at": "2026-11-26T02:36:32.118Z",
}  # fmt: skip
BODY = json.dumps({"type": "task.completed", "timestamp": "2026-11-26T02:36:32.118Z", "data": TASK}).encode()
NOW = 1_795_660_592


def _signed(*keys: str, at: int = NOW) -> dict[str, str]:
    return {name.title(): value for name, value in signed_headers(keys, "msg_t_1", at, BODY).items()}


def test_a_message_that_the_server_signed_is_read() -> None:
    for keys, known in (((KEY,), KEY), ((OTHER, KEY), KEY), ((KEY,), f"{OTHER} {KEY}")):
        told = api.verify_webhook(known, _signed(*keys), BODY, now=NOW, base_url="https://d.example/")
        assert (told.id, told.type, told.task.status) == ("msg_t_1", "task.completed", "completed")
        assert told.task.images[0].url == "https://d.example/files/a.jpg?sig=x"


def test_a_message_is_refused_that_is_altered_old_early_or_anothers() -> None:
    good = _signed(KEY)
    for headers, body, now in (
        (good, BODY + b" ", NOW),
        (good, BODY, NOW + 301),
        (good, BODY, NOW - 301),
        (_signed(OTHER), BODY, NOW),
        ({**good, "Webhook-Id": "msg_t_2"}, BODY, NOW),
        ({**good, "Webhook-Timestamp": str(NOW + 1)}, BODY, NOW),
        ({**good, "Webhook-Timestamp": "soon"}, BODY, NOW),
        ({**good, "Webhook-Signature": "v1,"}, BODY, NOW),
        ({**good, "Webhook-Signature": good["Webhook-Signature"].replace("v1,", "v1a,")}, BODY, NOW),
        ({**good, "Webhook-Signature": "v1,é"}, BODY, NOW),
        ({**good, "Webhook-Signature": "v1,\udcff"}, BODY, NOW),  # a byte that is no text, from aiohttp
        ({**good, "Webhook-Id": "\udcff"}, BODY, NOW),
        ({}, BODY, NOW),
    ):
        with pytest.raises(api.WebhookRefused):
            api.verify_webhook(KEY, headers, body, now=now)
    assert api.verify_webhook(KEY, good, BODY, now=NOW + 301, tolerance_seconds=400)


def test_a_key_that_is_none_is_a_mistake_of_the_receivers() -> None:
    for key in ("", "secret", "whsec_", "whsec_@@"):
        with pytest.raises(ValueError, match="darkroom webhooks secret"):
            api.verify_webhook(key, _signed(KEY), BODY, now=NOW)
