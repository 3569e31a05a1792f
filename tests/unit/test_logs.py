"""Logs: two formats, one filter; neither format shows a secret."""

from __future__ import annotations

import io
import json
import logging
import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from config.load_settings import load_settings
from supervisor.core.repeated_lines import FIRST_SECONDS, LONGEST_SECONDS, MOST_SERIES, RepeatedLines
from supervisor.telemetry.logs import _ConsoleRenderer, configure_logs
from tests.support.waiting import eventually


@pytest.fixture
def logged():
    """logged(format) configures the logs and gives the stream they go to; afterwards all is as before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def configure(log_format: str) -> io.StringIO:
        stream = io.StringIO()
        environ = {
            "DARKROOM_LOG_FORMAT": log_format,
            "DARKROOM_SECRET": "tell-nobody-1 of what 0123456789 says",
            "DARKROOM_PROVIDERS__mine__KIND": "http",
            "DARKROOM_PROVIDERS__mine__SECRETS__KEY": "tell-nobody-2",
        }
        configure_logs(load_settings(environ), "web", stream=stream)
        return stream

    yield configure
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_is_one_object_a_line_for_both_kinds_of_loggers(logged):
    stream = logged("json")
    logging.getLogger("library").warning("gone %s", "wrong", extra={"task_id": "t1"})
    structlog.get_logger("ours").info("did", count=2)
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["part"], first["level"], first["task_id"]) == (
        "gone wrong",
        "web",
        "warning",
        "t1",
    )
    assert (second["event"], second["count"], second["logger"]) == ("did", 2, "ours")
    assert second["timestamp"].endswith("Z")


def test_in_json_an_event_of_ours_names_its_module_only_from_a_warning_on(logged):
    stream = logged("json")
    for name in ("actors.attempts.attempt", "darkroom.access", "aiohttp.server"):
        structlog.get_logger(name).info("did")
        logging.getLogger(name).info("did the same by a record")
        structlog.get_logger(name).warning("failed")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    named = [(line.get("logger"), line["level"]) for line in lines]
    assert named == [
        *[(None, "info"), (None, "info"), ("actors.attempts.attempt", "warning")],
        *[(None, "info"), (None, "info"), ("darkroom.access", "warning")],
        *[("aiohttp.server", level) for level in ("info", "info", "warning")],
    ]


def test_a_line_is_stamped_in_utc_to_the_millisecond(logged):
    stream = logged("json")
    before = datetime.now(UTC)
    structlog.get_logger("ours").info("did")
    logging.getLogger("library").warning("gone")
    for line in stream.getvalue().splitlines():
        stamped = json.loads(line)["timestamp"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamped)
        assert abs((datetime.fromisoformat(stamped) - before).total_seconds()) < 60


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_line_is_the_same_whether_it_goes_the_short_way_or_by_a_record(logged, log_format):
    def lines(*others: logging.Handler) -> list[str]:
        stream = logged(log_format)
        logging.getLogger().handlers.extend(others)
        with structlog.contextvars.bound_contextvars(trace="of 1", task="nobody's"):
            log = structlog.get_logger("ours").bind(task="01K")
            log.info("attempt_started", waited_seconds=0.1, worker="w-1", none=None, flag=True)
            log.info(
                "said",
                text="two\nlines \u202e",
                quoted='a "b"',
                key="tell-nobody-2",
                api_key="x",
                many=[1, "b"],
            )
            log.info("asked", address="https://a:secretly@b/c?token=abc", part="other")
            log.info("with %s", "an argument")
            log.bind(stack="given").info("with a stack")
        return [re.sub(r"20\d\d-\d\d-\d\dT[\d:.]+Z", "now", line) for line in stream.getvalue().splitlines()]

    short = lines()
    assert len(short) >= 5 and "tell-nobody" not in "".join(short) and "secretly" not in "".join(short)
    assert short == lines(logging.NullHandler())


NAMES = (
    "task",
    "lease",
    "event",
    "logger",
    "level",
    "timestamp",
    "exc_info",
    "stack",
    "logger_name",
    "exception",
)
VALUES = st.one_of(st.text(max_size=8), st.integers(), st.none(), st.floats(allow_nan=False), st.booleans())


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=12)), VALUES)
def test_a_line_for_eyes_is_the_one_that_structlog_would_write(said: dict[str, Any], value: Any) -> None:
    event = {"timestamp": "2026", "level": "info", "event": "did", "logger": "ours", "value": value} | said
    event |= {"exc_info": None} if "exc_info" in event else {}
    ours = _ConsoleRenderer(colors=False, pad_event_to=0)(None, "info", dict(event))
    assert ours == structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)(None, "info", dict(event))


def test_a_line_names_what_structlog_names(logged: Any) -> None:
    """Short forms are for lines without an error; the text of an error is printed too."""
    stream = logged("console")
    log = structlog.get_logger("ours")
    log.info("did", task="t 1", count=2)
    try:
        raise ValueError("wrong")
    except ValueError:
        log.exception("failed", task="t 2")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("[info     ] did [ours] count=2 part=web task='t 1'")
    assert (
        lines[1].endswith("[error    ] failed [ours] part=web task='t 2'")
        and lines[-1] == "ValueError: wrong"
    )


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_secrets_are_never_logged(logged, log_format):
    stream = logged(log_format)
    log = structlog.get_logger("ours")
    log.info("with tell-nobody-1 of what 0123456789 says and tell-nobody-2")
    log.info("named", token="tell-nobody-3", api_key="tell-nobody-4", authorization="tell-nobody-5")
    log.info("GET /v1/works/feed?ticket=tell-nobody-6&x=1 /files/a.jpg?exp=1&sig=tell-nobody-7")
    log.info("Authorization: Bearer tell-nobody-8", url="redis://me:tell-nobody-9@host/0")
    log.info("POST /v1/callbacks/tell-nobody-10 200")
    log.info("a token eyJhbGciOi.tell-nobody-11.sig-tell-nobody-11 somewhere")
    try:
        raise ValueError("tell-nobody-1 of what 0123456789 says")
    except ValueError:
        log.exception("it broke")
    assert "tell-nobody" not in stream.getvalue()
    assert "x=1" in stream.getvalue()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_logged_text_starts_no_line_and_steers_no_terminal(logged, log_format):
    stream = logged(log_format)
    nasty = "a\n2026-11-29T00:00:00Z [error] all is lost\r\x1b[2J\x00\x85\x9b\u2028\u202e\ud800z"
    structlog.get_logger("ours").info(f"did {nasty}", task=nasty)
    logging.getLogger("library").warning("gone %s", nasty, extra={"user": nasty})
    try:
        raise ValueError(f"no \x1b[2J\u202e\ud800 {nasty}")
    except ValueError:
        logging.getLogger("library").exception("failed")
    said = stream.getvalue()
    assert not set(said) & set("\r\x1b\x00\x85\x9b\u2028\u202e\ud800")
    first, second = said.splitlines()[:2]
    assert first.count("all is lost") == 2 and second.count("all is lost") == 2
    assert "\\u001b[2J" in first


# --- what repeats ---


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_warning_that_repeats_is_written_once_and_counted(logged):
    stream = logged("json")
    log = structlog.get_logger("ours")
    for n in range(2000):
        log.error("dispatch_failed", reason="The disk is full: tell-nobody-2.")
        logging.getLogger("library").warning("no room in %s", "there", extra={"user": f"o-{n % 2}"})
    told = [(line["event"], line.get("user")) for line in lines_of(stream)]
    assert told == [("dispatch_failed", None), ("no room in there", "o-0"), ("no room in there", "o-1")]
    logging.getLogger().handlers[0].close()  # as the process's end does
    told = [(line["event"], line["repeated"].partition(" in ")[0]) for line in lines_of(stream)[3:]]
    assert told == [
        ("dispatch_failed", "1999 times"),
        ("no room in there", "999 times"),
        ("no room in there", "999 times"),
    ]
    assert "darkroom_repeated" not in stream.getvalue() and "tell-nobody" not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_of_an_error_that_repeats_the_traceback_is_written_once(logged, log_format):
    stream = logged(log_format)
    for number in (1, 1, 2, 1):
        try:
            raise ValueError(f"number {number}")
        except ValueError:
            structlog.get_logger("ours").exception("it broke")
            logging.getLogger("library").exception("it broke there")
    logging.getLogger().handlers[0].close()
    assert stream.getvalue().count("Traceback") == 4, "each of two loggers told of two errors"
    assert stream.getvalue().count("2 times in 0 s") == 2


def test_ordinary_events_have_a_line_each(logged):
    stream = logged("json")
    for _ in range(3):
        structlog.get_logger("ours").info("task_dispatched")
    assert len(lines_of(stream)) == 3


def test_the_count_is_logged_without_a_further_line(logged, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("supervisor.core.repeated_lines.FIRST_SECONDS", 0.05)
    monkeypatch.setattr("supervisor.telemetry.logs.time", SimpleNamespace(monotonic=lambda: now[0]))
    stream = logged("json")
    for _ in range(3):
        structlog.get_logger("ours").warning("write_delayed")
    assert len(lines_of(stream)) == 1
    now[0] += 1
    eventually("it is told", lambda: len(lines_of(stream)) == 2)
    assert lines_of(stream)[1]["repeated"].startswith("2 times in ")


def test_a_storm_of_an_hour_is_a_line_a_minute_and_no_number_is_lost():
    seen: RepeatedLines[str] = RepeatedLines()
    written, counted, now = 0, 0, 0.0
    while now < 3600:
        told = seen.due(now)
        counted += sum(each.count for each in told)
        written += len(told) + seen.is_news("the same", "line", now)
        now += 0.5
    counted += sum(each.count for each in seen.rest(now))
    assert counted == 7200 - 1
    assert written <= 3600 / LONGEST_SECONDS + 5


def test_a_message_after_a_silence_is_logged_as_new():
    seen: RepeatedLines[str] = RepeatedLines()
    assert seen.is_news("a", "line", 0.0) and seen.next_due() is None
    assert seen.due(FIRST_SECONDS) == []
    assert seen.is_news("a", "line", FIRST_SECONDS)
    assert not seen.is_news("a", "line", FIRST_SECONDS + 1)
    assert seen.next_due() == 2 * FIRST_SECONDS
    (told,) = seen.due(2 * FIRST_SECONDS)
    assert str(told) == "1 time in 10 s"


def test_more_different_lines_than_are_kept_in_mind_are_written():
    seen: RepeatedLines[str] = RepeatedLines()
    assert all(seen.is_news(n, "line", 0.0) for n in range(MOST_SERIES + 100))
    assert not seen.is_news(0, "line", 0.0)
