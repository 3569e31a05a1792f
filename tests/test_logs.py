"""Logs: two formats, one filter; no secret gets through either."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from config.settings import load_settings
from supervisor.logs import configure_logs


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
def test_what_is_told_begins_no_line_of_its_own_and_steers_no_terminal(logged, log_format):
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
