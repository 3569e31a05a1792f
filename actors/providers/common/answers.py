"""The meaning of an answer: pictures, or an error with its class.  Pure.

The settings' lists come first: each holds globs, matched with the service's own error codes and then with the HTTP
status as text (`"5??"`).  Other answers are judged by the status:

| status | class |
|---|---|
| 200-299 with pictures | done |
| 200-299 without | provider_error |
| 429 | rate_limited, for as long as Retry-After says |
| 409, and 503 with Retry-After | at_capacity |
| 503, 521, 523, 525, 526, 530: it is starting, or its gateway finds no server behind it | not_ready |
| 401, 402, 403, 404, 405, 407, 410, and redirects, which are not followed | provider_down |
| 504, 524: a gateway gave up waiting | unknown_outcome |
| 408, 425, and those 5xx that say that nothing was begun: 501, 505, 529 | transient |
| other 5xx: perhaps it was carried out | unknown_outcome, where it may not bill twice; else transient |
| other 4xx | invalid_input |

Codes and statuses in `retry` are always tried again: the service itself, or its operator, says so.
"""

from __future__ import annotations

import email.utils
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.providers.base import (
    Ambiguous,
    AtCapacity,
    ContentRejected,
    InvalidInput,
    NotReady,
    ProviderDown,
    ProviderError,
    RateLimited,
    Transient,
    UnknownOutcome,
)
from actors.providers.common.costs import CostPlace
from actors.providers.common.paths import Path, parse_path
from actors.providers.common.picture_sources import Inline, Source, file_source_of, source_of
from supervisor.media.file_kinds import HEAD_BYTES, file_kind
from supervisor.pictures.media_types import picture_type

MOST_SENTENCES = 3
_WHERE_SENTENCES_STAND = (
    "$.error.message",
    "$.error",
    "$.detail",
    "$.detail[*].msg",
    "$.message",
    "$[*].error",
    "$.errors[*].message",
)
USUAL_SENTENCES = tuple(map(parse_path, _WHERE_SENTENCES_STAND))
CLASSES = ("content_rejected", "halt", "at_capacity", "rate_limited", "permanent", "retry")  # in this order
# How programs say that a model found no memory: PyTorch, CUDA, JAX, NumPy, ONNX Runtime, TensorFlow, Python.  Another
# attempt may find some.
OUT_OF_MEMORY = (
    "*ut of memory*",
    "*an't allocate memory*",
    "*not allocate memory*",
    "*nable to allocate *",
    "*ailed to allocate memory*",
    "*OOM when allocating*",
    "*MemoryError*",
)
LONGEST_WAIT_SECONDS = 86_400.0
MOST_SAID_CHARACTERS, MOST_DETAIL_CHARACTERS = 300, 1500
_NO_ERROR = (None, "", 0, False)
_SETUP = frozenset({401, 402, 403, 404, 405, 407, 410})
_AUTHENTICATION = frozenset({401, 403, 407})  # the answer may hold a refused key, shortened or masked
_LINK = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s\"'<>]+|data:[^\s\"'<>]{20,}", re.IGNORECASE)
_GATEWAY_GAVE_UP = frozenset({504, 524})
_NOT_BEGUN = frozenset({408, 425, 501, 505, 529})  # not possible, or not now; 529 is "overloaded"
# The gateway can't reach the service yet; 521 to 530 are Cloudflare's.
_NOT_READY = frozenset({503, 521, 523, 525, 526, 530})


@dataclass(frozen=True)
class Answer:
    """A complete answer.  headers: with lower-case names.  document: the body as JSON, None if it is not JSON."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    document: Any = None


@dataclass(frozen=True)
class Rules:
    """The paths in this service's answers.  result: of pictures. classes: {class of CLASSES: globs}. cost: of the cost.
    picture_code: of single refused pictures. hide: removes secrets from the service's texts.
    """

    result: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    data: Path | None = None
    cost: CostPlace | None = None
    code: tuple[Path, ...] = ()
    picture_code: tuple[Path, ...] = ()
    message: tuple[Path, ...] = ()
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hide: Callable[[str], str] = str


def pictures_in(answer: Answer, rules: Rules, *, now: float) -> list[Source]:
    """The pictures of an answer, in order; none if it holds files or data.

    now: seconds since 1970, for a Retry-After that is a date.
    Raises a ProviderError; its class says what follows.
    """
    error = error_in(answer, rules, now=now)
    if error is not None:
        raise error
    found = _pictures(answer, rules)
    if found or others_in(answer, rules).is_some:
        return found
    raise no_pictures(answer, rules, now=now)


@dataclass(frozen=True)
class Others:
    """The results of an answer besides pictures.  data: None for none."""

    files: tuple[Source, ...] = ()
    data: Any = None

    @property
    def is_some(self) -> bool:
        return bool(self.files) or self.data is not None


def others_in(answer: Answer, rules: Rules) -> Others:
    """Files and data of a good answer, by the paths of the settings; a body that is a film or sound needs no path.

    A source among the pictures is not a file.
    """
    data = rules.data.find(answer.document) if rules.data is not None else []
    found = [
        source
        for path in rules.files
        for value in path.find(answer.document)
        if (source := file_source_of(value))
    ]
    if not found and answer.document is None and _is_played(answer.body):
        found = [Inline(answer.body)]
    return Others(tuple(dict.fromkeys(found)), data[0] if data else None)


def _is_played(body: bytes) -> bool:
    kind = file_kind(body[:HEAD_BYTES])
    return kind is not None and kind.kind != "files"


def error_in(answer: Answer, rules: Rules, *, now: float) -> ProviderError | None:
    """The error by an answer's codes and status; None without one."""
    codes = error_codes(answer.document, rules.code)
    named = _named_class([codes, [str(answer.status)]], rules)
    if named is not None:
        return _error(named, answer, codes, rules, now)
    if not 200 <= answer.status < 300:
        return _error(_class_of_status(answer, now), answer, codes, rules, now)
    return None


def question_error_in(answer: Answer, rules: Rules, *, now: float) -> ProviderError | None:
    """The same for the answer to a poll: it costs nothing, so an unclear outcome is only a temporary error."""
    error = error_in(answer, rules, now=now)
    return Transient(error.message) if isinstance(error, UnknownOutcome) else error


def no_pictures(answer: Answer, rules: Rules, *, now: float) -> ProviderError:
    """The reason why an ended job has no picture: by its codes, or those of its refused pictures."""
    codes = error_codes(answer.document, rules.code) or error_codes(answer.document, rules.picture_code)
    named = _named_class([codes], rules)
    if named is not None:
        return _error(named, answer, codes, rules, now)
    if names_no_error(answer, rules):
        return ProviderError("The AI service's answer holds no picture where its settings look for one.")
    return ProviderError(f"The AI service reports an error ({_said(answer, codes, rules)}).")


def names_no_error(answer: Answer, rules: Rules) -> bool:
    """Whether an answer without pictures gives no reason: neither a code nor a sentence."""
    codes = error_codes(answer.document, rules.code) or error_codes(answer.document, rules.picture_code)
    return not codes and _said(answer, codes, rules) == f"HTTP {answer.status}"


def error_codes(document: Any, paths: Iterable[Path]) -> list[str]:
    """The service's own codes for what went wrong; null, empty and 0 are none."""
    found = [value for path in paths for value in path.find(document)]
    return [
        str(value)[:200] for value in found if isinstance(value, str | int | float) and value not in _NO_ERROR
    ]


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, from `Retry-After-Ms` or `Retry-After` (seconds or a date); None without either."""
    milliseconds = headers.get("retry-after-ms", "")
    if re.fullmatch(r"\d{1,12}(\.\d+)?", milliseconds):
        return min(float(milliseconds) / 1000, LONGEST_WAIT_SECONDS)
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,12}(\.\d+)?", text):
        return min(float(text), LONGEST_WAIT_SECONDS)
    try:
        when = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, when - now), LONGEST_WAIT_SECONDS)


def is_out_of_memory(text: str) -> bool:
    """Whether an error says so."""
    return any(fnmatch.fnmatchcase(text, glob) for glob in OUT_OF_MEMORY)


def _named_class(said: Iterable[list[str]], rules: Rules) -> str | None:
    """The class of the first texts that match a list."""
    for texts in said:
        for name in CLASSES:
            if any(fnmatch.fnmatchcase(text, glob) for text in texts for glob in rules.classes.get(name, ())):
                return name
    return None


def _class_of_status(answer: Answer, now: float) -> str:
    status = answer.status
    if status == 429:
        return "rate_limited"
    if status == 409 or (status == 503 and retry_after(answer.headers, now) is not None):
        return "at_capacity"
    if status in _SETUP or 300 <= status < 400:
        return "halt"
    if status in _GATEWAY_GAVE_UP:
        return "unknown_outcome"
    if status in _NOT_READY:
        return "not_ready"
    if status in _NOT_BEGUN:
        return "retry"
    return "ambiguous" if status >= 500 else "permanent"


def _error(name: str, answer: Answer, codes: list[str], rules: Rules, now: float) -> ProviderError:
    error = _classed(name, answer, codes, rules, now)
    if answer.status not in _AUTHENTICATION:
        error.detail = whole_word(answer, rules)
    return error


def whole_word(answer: Answer, rules: Rules) -> str:
    """The whole text of an answer, for operators: without secrets and links, on one line, shortened; empty for a
    picture."""
    try:
        text = answer.body[: 4 * MOST_DETAIL_CHARACTERS].decode(
            "utf-8", "replace" if answer.document else "strict"
        )
    except UnicodeDecodeError:
        return ""
    return plain_words(text, rules.hide, MOST_DETAIL_CHARACTERS)


def plain_words(text: str, hide: Callable[[str], str], most: int = MOST_SAID_CHARACTERS) -> str:
    """A service's text, safe for people: no secrets, no links, one line, at most so many characters."""
    said = _LINK.sub("(link)", hide(text))
    said = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff\s]+", " ", said).strip()
    return said if len(said) <= most else said[: most - 1] + "…"


def _classed(name: str, answer: Answer, codes: list[str], rules: Rules, now: float) -> ProviderError:
    wait = retry_after(answer.headers, now)
    # The service's sentence may hold a refused key, changed in ways that no filter knows: so only its code is shown.
    brief = ", ".join([f"HTTP {answer.status}", *map(rules.hide, codes[:1])])
    match name:
        case "rate_limited":
            return RateLimited(f"The AI service asks for patience ({brief}).", wait_seconds=wait)
        case "at_capacity":
            return AtCapacity(f"The AI service has no room for another job ({brief}).", wait_seconds=wait)
        case "not_ready":
            return NotReady(f"The AI service is not ready yet ({brief}).", wait_seconds=wait)
        case "halt":
            return ProviderDown(f"The AI service refuses every job ({brief}).", wait_seconds=wait)
        case "unknown_outcome":
            return UnknownOutcome(f"A gateway gave up waiting for the AI service ({brief}).")
        case "ambiguous":
            said = _said(answer, codes, rules)
            return Ambiguous(f"The AI service is in trouble, and may have made it ({said}).")
        case "content_rejected":
            return ContentRejected(
                f"The AI service refuses this content ({_said(answer, codes, rules)}).",
            )
        case "permanent":
            return InvalidInput(f"The AI service can not work with this ({_said(answer, codes, rules)}).")
        case _:
            return Transient(f"The AI service is in trouble ({_said(answer, codes, rules)}).")


def _pictures(answer: Answer, rules: Rules) -> list[Source]:
    """The pictures of the first path that finds any; a body that is a picture needs no path."""
    if picture_type(answer.body) is not None:
        return [Inline(answer.body)]
    for path in rules.result:
        sources = [source for value in path.find(answer.document) if (source := source_of(value))]
        if sources:
            return sources
    return []


def _said(answer: Answer, codes: list[str], rules: Rules) -> str:
    """Status, code and the service's own sentences, without secrets and links, on one line, short enough for a user."""
    parts = [f"HTTP {answer.status}", *codes[:1], *_sentences(answer, rules)[:MOST_SENTENCES]]
    return plain_words(", ".join(dict.fromkeys(parts)), rules.hide)


def _sentences(answer: Answer, rules: Rules) -> list[str]:
    """By the paths of the settings; for a bad answer without them, in the places that servers usually use."""
    usual = USUAL_SENTENCES if answer.status >= 400 else ()
    for paths in (rules.message, usual):
        found = [
            value
            for path in paths
            for value in path.find(answer.document)
            if isinstance(value, str) and value
        ]
        if found:
            return list(dict.fromkeys(found))
    return []
