"""Logs of every part: structlog and the standard library's loggers through one formatter, to stderr.

`console` is for people, `json` is one object a line.  Libraries that use the standard library's logging get the same
format.  A last filter removes secrets from each rendered line (`secret_filter`).  Repeated warnings and errors are
counted (`core.repeated_lines`), so that errors about a full disk do not fill it further.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import sys
import threading
import time
from collections.abc import Hashable
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from config.settings import Settings
from supervisor.core.repeated_lines import Repeated, RepeatedLines
from supervisor.telemetry import attempt_lines
from supervisor.telemetry.secret_filter import hide_named_secrets, secret_filter

REPEATED = "darkroom_repeated"  # the attribute of a record that represents repetitions
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def configure_logs(settings: Settings, part: str, *, stream: TextIO | None = None) -> None:
    """Set up logging by the settings; each line names its part (`web`, `worker`, …).

    stream: defaults to the original stderr of the process, which a library's redirection does not affect.
    """
    out = stream or sys.__stderr__ or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _stamp,
        structlog.processors.StackInfoRenderer(),
        _name_part(part),
        hide_named_secrets,
    ]
    handler, formatter = _CountingHandler(out), _Formatter(settings, shared, colors=out.isatty())
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("aiohttp.access", "asyncio", "peewee", "PIL"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            _ShortWay(part, handler, formatter),
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


class _ShortWay:
    """A processor that writes plain lines about single events itself, without a record of the standard library.

    Each task logs several of them, and the record costs more than all the rest.  Lines with an error, and warnings,
    which are counted, go on to the other processors; so does everything while another handler listens, as in tests.
    """

    def __init__(self, part: str, handler: _CountingHandler, formatter: _Formatter) -> None:
        self._part, self._handler, self._formatter = part, handler, formatter
        self._root = logging.getLogger()

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        if method != "info" or not event.keys().isdisjoint(_NEEDS_A_RECORD) or not self._is_alone(logger):
            return event
        whole = structlog.contextvars.merge_contextvars(logger, method, {**event})
        whole["logger"], whole["level"] = logger.name, method
        whole = hide_named_secrets(logger, method, _stamp(logger, method, whole))
        whole.setdefault("part", self._part)
        try:
            self._handler.write(self._formatter.line(logger, method, whole))
        except Exception:  # noqa: BLE001  the handler says what is wrong with the line, or with the file
            return event
        raise structlog.DropEvent

    def _is_alone(self, logger: Any) -> bool:
        return self._root.handlers == [self._handler] and not logger.handlers


_NEEDS_A_RECORD = {"exc_info", "stack_info", "stack", "extra", "positional_args"}


class _CountingHandler(logging.StreamHandler[TextIO]):
    """Writes warnings and errors that differ only in their time once, and then the number of their repetitions.

    Records below a warning describe single events, and each has its own line.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._repetitions: RepeatedLines[logging.LogRecord] = RepeatedLines()
        self._teller: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:  # with the handler's lock held
        if record.levelno < logging.WARNING:
            super().emit(record)
            return
        self._tell_due()
        if self._repetitions.is_news(_what_it_says(record), record, time.monotonic()):
            super().emit(record)
        elif self._teller is None or not self._teller.is_alive():
            self._tell_later()

    def write(self, line: str) -> None:
        """Write a line about a single event."""
        with self._held():
            self.stream.write(line + self.terminator)
            self.stream.flush()

    def close(self) -> None:
        with self._held():
            for repeated in self._repetitions.rest(time.monotonic()):
                self._tell(repeated)
            super().close()

    def _tell_due(self) -> None:
        for repeated in self._repetitions.due(time.monotonic()):
            self._tell(repeated)

    def _tell(self, repeated: Repeated[logging.LogRecord]) -> None:
        told = copy.copy(repeated.last)
        told.exc_info = told.exc_text = None  # its traceback was written the first time
        setattr(told, REPEATED, str(repeated))
        super().emit(told)

    def _tell_later(self) -> None:
        if (due := self._repetitions.next_due()) is not None:
            self._teller = threading.Timer(max(0.0, due - time.monotonic()), self._tell_on_time)
            self._teller.daemon = True
            self._teller.start()

    def _tell_on_time(self) -> None:
        with self._held():
            self._tell_due()
            self._tell_later()

    def _held(self) -> contextlib.AbstractContextManager[Any]:
        return self.lock or contextlib.nullcontext()


# structlog's two names are objects of the logger; the rest is what `extra` added.
_EVERY_RECORD_HAS = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "_logger", "_name"})


def _what_it_says(record: logging.LogRecord) -> Hashable:
    """A key that is equal for two records that differ only in their time."""
    said = {**record.msg} if isinstance(record.msg, dict) else {"event": record.getMessage()}
    said.pop("timestamp", None)
    error = sys.exc_info() if said.pop("exc_info", None) is True else record.exc_info or (None, None)
    more = {name: value for name, value in vars(record).items() if name not in _EVERY_RECORD_HAS}
    bound = structlog.contextvars.get_contextvars()
    return record.name, record.levelno, repr((said, error[1], more, bound))


class _Formatter(structlog.stdlib.ProcessorFormatter):
    def __init__(self, settings: Settings, shared: list[Processor], *, colors: bool) -> None:
        last: list[Any] = [
            _say_how_often,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _escape_controls,
        ]
        if settings.log_format == "json":
            last += [
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=_as_json),
            ]
        else:
            last += [_ConsoleRenderer(colors=colors, pad_event_to=0, exception_formatter=_plain_traceback)]
        super().__init__(foreign_pre_chain=shared, processors=last)
        self._hide, self._render = secret_filter(settings), last[-1]

    def format(self, record: logging.LogRecord) -> str:
        if not (isinstance(record.msg, dict) and hasattr(record, "_logger")):
            return self._hide(super().format(record))
        # As in structlog, but without copies of the record, since each task logs several lines.
        event: Any = {**record.msg, "_record": record, "_from_structlog": True}
        for process in self.processors:
            event = process(record._logger, record._name, event)  # type: ignore[attr-defined]
        line = self._hide(event)
        attempt_lines.note(record.msg, line)
        return line

    def line(self, logger: Any, method: str, event: EventDict) -> str:
        """The text of an event that has no record and no error."""
        whose = {"task": event.get("task", ""), "lease": event.get("lease", 0)}  # the renderer empties it
        line = self._hide(self._render(logger, method, _escape_controls(logger, method, event)))
        attempt_lines.note(whose, line)
        return line


class _ConsoleRenderer(structlog.dev.ConsoleRenderer):
    """Writes records without errors and colours in a third of the time, with the same result."""

    def __init__(self, *, colors: bool, **options: Any) -> None:
        super().__init__(colors=colors, **options)
        self._is_plain = not colors

    def __call__(self, logger: Any, name: str, event: EventDict) -> str:
        if not self._is_plain or not event.keys().isdisjoint(_NOT_PLAIN) or not event.keys() >= _HEAD:
            return super().__call__(logger, name, event)
        level, logger_name = f"[{event.pop('level'):<9}]", f"[{event.pop('logger')}]"
        head = (str(event.pop("timestamp")), level, str(event.pop("event")), logger_name)
        said = [f"{key}={_plain(value) or self._repr(value)}" for key, value in sorted(event.items())]
        return " ".join(filter(None, (*head, *said))).rstrip(" ")


def _plain(value: Any) -> str | None:
    """A value as it is, where that is seen at a glance: an id, a name without a hyphen."""
    return value if isinstance(value, str) and value.isalnum() else None


_HEAD = {"timestamp", "level", "event", "logger"}
_NOT_PLAIN = {"stack", "exception", "exc_info", "logger_name"}


def _say_how_often(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The number of repetitions in a line."""
    if repeated := getattr(event["_record"], REPEATED, ""):
        event.pop(REPEATED, None)  # stored like a value of `extra`
        event.pop("exc_info", None)
        event["repeated"] = repeated
    return event


def _escape_controls(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Values from outside must not begin a line of their own or control a terminal."""
    for value in event.values():
        if isinstance(value, str) and not value.isprintable():
            return {name: escaped(each) if isinstance(each, str) else each for name, each in event.items()}
    return event


def escaped(text: str) -> str:
    """A text of one line: control characters, lone surrogates and characters that change the direction are escaped."""
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _plain_traceback(out: TextIO, exc_info: ExcInfo) -> None:
    told = io.StringIO()
    structlog.dev.plain_traceback(told, exc_info)
    out.write("\n".join(map(escaped, told.getvalue().split("\n"))))


def _stamp(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Add the time, in UTC, to the millisecond."""
    event["timestamp"] = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
    return event


def _name_part(part: str) -> Processor:
    def add(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event.setdefault("part", part)
        return event

    return add


_OUR_LOGGERS = frozenset({"darkroom", "actors", "web", "supervisor", "metrics", "config"})


def _as_json(event: Any, **_: Any) -> str:
    """One object.  Each task has lines at `info`, and an event of ours is known by its name: only a warning or an error
    also names the module."""
    if event.get("level") == "info" and str(event.get("logger")).partition(".")[0] in _OUR_LOGGERS:
        del event["logger"]
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
