"""The settings of an HTTP service, read once into one checked value, or one sentence about what is wrong.

Whatever a template or a path gets wrong is said when a process starts, not when somebody's task meets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from actors.providers.http import answers
from actors.providers.http.answers import Rules
from actors.providers.http.paths import BadPath, Path, parse_path
from actors.providers.http.requests import RequestTemplate, request_template
from actors.providers.http.template import BadTemplate, check
from config.settings import Provider, Settings
from supervisor.faults import SettingFault
from supervisor.logs import secret_filter

T = TypeVar("T")

METHODS = ("POST", "PUT", "PATCH", "GET")
ENCODINGS = ("json", "multipart")
_SUBMIT = ("method", "url", "headers", "query", "body", "encoding", "pictures_per_request")
_ERROR = ("code", "message", *answers.CLASSES)


@dataclass(frozen=True)
class Service:
    """What a synchronous service is asked, and how it answers.

    pictures_per_request: how many it makes at most when asked once; 0 = as many as are ordered.
    """

    name: str
    request: RequestTemplate
    rules: Rules
    pictures_per_request: int
    secrets: Mapping[str, str]
    answer_bytes: int
    allow_private_addresses: bool
    may_bill_twice: bool

    @property
    def sends_links(self) -> bool:
        """Whether it fetches pictures from us."""
        return any(each.input and each.input[1] == "url" for each in self.request.placeholders)


def read_service(name: str, provider: Provider, settings: Settings) -> Service:
    """The service of a provider of kind `http`.  Raises SettingFault with the setting's name."""
    here = f"DARKROOM_PROVIDERS__{name}"
    if provider.mode != "sync":
        raise SettingFault(f"{here}__MODE is {provider.mode!r}, but this version speaks sync.")
    secrets = {key: value.get_secret_value() for key, value in provider.secrets.items()}
    service = Service(
        name=name,
        request=_request(here, provider, secrets),
        rules=_rules(here, provider, settings),
        pictures_per_request=_count(
            f"{here}__SUBMIT__PICTURES_PER_REQUEST", provider.submit.get("pictures_per_request", 0)
        ),
        secrets=secrets,
        answer_bytes=provider.limits.answer_bytes,
        allow_private_addresses=provider.allow_private_addresses,
        may_bill_twice=provider.may_bill_twice,
    )
    if service.sends_links and not settings.url:
        raise SettingFault(
            f"{here}__SUBMIT sends links to pictures, but DARKROOM_URL, the address under which the service can fetch "
            "them from here, is not set; set it, or send ${input.0.data_uri} or ${input.0.bytes} instead."
        )
    return service


def _request(here: str, provider: Provider, secrets: Mapping[str, str]) -> RequestTemplate:
    submit, there = provider.submit, f"{here}__SUBMIT"
    _refuse_unknown(there, submit, _SUBMIT)
    method = str(submit.get("method", "POST")).upper()
    if method not in METHODS:
        raise SettingFault(f"{there}__METHOD is {method!r}, but may be one of {', '.join(METHODS)}.")
    encoding = submit.get("encoding", "json")
    if encoding not in ENCODINGS:
        raise SettingFault(f"{there}__ENCODING is {encoding!r}, but may be one of {', '.join(ENCODINGS)}.")
    address = str(submit.get("url", ""))
    if address.startswith("/") or not address:
        address = provider.url.rstrip("/") + address
    if not address:
        raise SettingFault(f"{there}__URL is not set, but must be the address that takes the request.")
    template = _checked(
        there,
        lambda: request_template(
            method,
            address,
            _table(f"{there}__HEADERS", submit.get("headers", {})),
            _table(f"{there}__QUERY", submit.get("query", {})),
            submit.get("body"),
            encoding,
        ),
    )
    _checked(there, lambda: check(template.placeholders, secrets=secrets))
    return template


def _rules(here: str, provider: Provider, settings: Settings) -> Rules:
    error = provider.error
    _refuse_unknown(f"{here}__ERROR", error, _ERROR)
    return Rules(
        result=_paths(f"{here}__RESULT", provider.result),
        code=_paths(f"{here}__ERROR__CODE", error.get("code", [])),
        message=_paths(f"{here}__ERROR__MESSAGE", error.get("message", [])),
        classes={
            each: _texts(f"{here}__ERROR__{each.upper()}", error.get(each, [])) for each in answers.CLASSES
        },
        hide=secret_filter(settings),
    )


def _checked(here: str, make: Callable[[], T]) -> T:
    try:
        return make()
    except (BadTemplate, BadPath) as error:
        raise SettingFault(f"{here}: {error}.") from None


def _paths(here: str, value: Any) -> tuple[Path, ...]:
    return _checked(here, lambda: tuple(map(parse_path, _texts(here, value))))


def _texts(here: str, value: Any) -> tuple[str, ...]:
    """A list of texts; one text is a list of one."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(each, str | int) for each in given):
        raise SettingFault(f"{here} is {value!r}, but may be a list of texts.")
    return tuple(str(each) for each in given)


def _table(here: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingFault(f"{here} may be a table.")
    return value


def _count(here: str, value: Any) -> int:
    """A whole number; from the environment it comes as text."""
    text = str(value)
    if not text.isdecimal() or len(text) > 4:
        raise SettingFault(f"{here} is {value!r}, but may be a whole number from 0.")
    return int(text)


def _refuse_unknown(here: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise SettingFault(
            f"{here}__{unknown[0].upper()} is not a setting; it may be one of {', '.join(known)}."
        )
