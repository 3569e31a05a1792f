"""Logs of every part: structlog and the standard library's loggers through one formatter, to stderr.

`console` is for eyes, `json` is one object a line.  Libraries that log the stdlib way come out the same.  The rendered
line passes one last filter that takes out what must never be in a log: configured secrets, bearer tokens, tickets,
signatures, passwords in addresses.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor

from config.settings import Settings, hide_password

STARS = "***"
_TOKENS = re.compile(
    r"(?P<keep>\bBearer\s+|\b(?:ticket|sig|token|code|secret|password)=)[^\s&\"']+"
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]*"  # any JWT
    r"|(?P<callback>/v1/callbacks/)[^\s\"'?]+"
)
_SECRET_NAMES = re.compile(r"(?i)(secret|password|authorization|api_?key|cookie|token|ticket)$")
SHORTEST_SECRET = 6  # a shorter text would star out innocent words


def configure_logs(settings: Settings, part: str, *, stream: TextIO | None = None) -> None:
    """From now on this process logs as the settings say, each line naming its part (`web`, `worker`, …).

    stream: defaults to the stderr the process was born with, so a library's redirection does not catch it.
    """
    out = stream or sys.__stderr__ or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _name_part(part),
        hide_named_secrets,
    ]
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Formatter(settings, shared, colors=out.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("aiohttp.access", "asyncio", "peewee", "PIL"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


class _Formatter(structlog.stdlib.ProcessorFormatter):
    def __init__(self, settings: Settings, shared: list[Processor], *, colors: bool) -> None:
        last: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
        if settings.log_format == "json":
            last += [
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=_as_json),
            ]
        else:
            last += [
                structlog.dev.ConsoleRenderer(
                    colors=colors, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
                )
            ]
        super().__init__(foreign_pre_chain=shared, processors=last)
        self._hide = secret_filter(settings)

    def format(self, record: logging.LogRecord) -> str:
        return self._hide(super().format(record))


def secret_filter(settings: Settings) -> Callable[[str], str]:
    """A function that takes secrets out of a text: those configured, and whatever looks like a credential."""
    known = [settings.secret, settings.token, settings.wechat.app_secret]
    known += [secret for provider in settings.providers.values() for secret in provider.secrets.values()]
    texts = {secret.get_secret_value() for secret in known if secret is not None}
    longest_first = sorted((text for text in texts if len(text) >= SHORTEST_SECRET), key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in longest_first:
            text = text.replace(secret, STARS)
        text = _TOKENS.sub(lambda found: (found["keep"] or found["callback"] or "") + STARS, text)
        return hide_password(text)

    return hide


def hide_named_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Star out what is logged under a name such as `token` or `api_key`, whatever its value."""
    for name in event:
        if _SECRET_NAMES.search(name):
            event[name] = STARS
    return event


def _name_part(part: str) -> Processor:
    def add(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event.setdefault("part", part)
        return event

    return add


def _as_json(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
