"""The settings of an HTTP service, read once into one checked value, or one sentence about what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from actors.providers.common.paths import Path
from actors.providers.common.reading import (
    can_be_called,
    checked,
    read_choice,
    read_count,
    read_path,
    read_paths,
    read_seconds,
    read_table,
    read_texts,
    refuse_unknown,
    setting_name,
)
from actors.providers.common.requests import Encoding, RequestTemplate, request_template
from actors.providers.common.service import HttpService, read_common
from actors.providers.common.template import check
from actors.providers.http.remote_jobs import STATES, JobRules
from config.provider import Provider
from config.settings import Settings
from supervisor.core.errors import SettingFault

METHODS = ("POST", "PUT", "PATCH", "GET", "DELETE")
ENCODINGS = ("json", "multipart")
FORMS = ("url", "data_uri", "bytes")
USUAL_INTERVAL = (2.0, 30.0)
_REQUEST = ("method", "url", "headers", "query", "body", "encoding")
_SUBMIT = (*_REQUEST, "pictures_per_request", "keep")
_JOB = ("status", "map", "pending_http", "progress", "progress_of")
_POLL = (*_REQUEST, *_JOB, "interval", "fetch")
_CALLBACK = (*_JOB, "result")


@dataclass(frozen=True)
class _AtHand:
    """The placeholders with a value in a request.  without: plain names without one; forms: of the order's pictures."""

    without: tuple[str, ...]
    forms: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class RemoteService:
    """The requests about a remote job, and the paths in their answers.

    id, keep: paths in the first answer for values that are needed later.  ask: None if the service only reports; fetch:
    None if the answer to `ask` holds the result too.  interval: seconds, first and longest.  reports: None if a report
    only asks for a poll; report_result: the path of a report's pictures.
    """

    id: Path
    keep: Mapping[str, Path]
    ask: RequestTemplate | None
    job: JobRules
    interval: tuple[float, float]
    fetch: RequestTemplate | None
    cancel: RequestTemplate | None
    reports: JobRules | None
    report_result: tuple[Path, ...]


@dataclass(frozen=True)
class Service(HttpService):
    """A service's requests and answers.

    pictures_per_request: the most pictures of one request; 0 = as many as ordered.  remote: None if the first answer
    holds the pictures.
    """

    request: RequestTemplate
    pictures_per_request: int
    remote: RemoteService | None = None

    @property
    def sends_links(self) -> bool:
        """Whether it fetches pictures from us."""
        return any(each.input and each.input[1] == "url" for each in self.request.placeholders)


def read_service(name: str, provider: Provider, settings: Settings) -> Service:
    """The service of a provider of kind `http`.  Raises SettingFault with the setting's name."""
    here = setting_name(name)
    reader = _Reader(here, provider)
    at_submit = _AtHand(without=("id", "callback_url") if provider.mode == "sync" else ("id",), forms=FORMS)
    service = Service(
        **read_common(name, provider, settings),
        request=reader.request("SUBMIT", provider.submit, _SUBMIT, at_submit, "POST"),
        pictures_per_request=read_count(
            f"{here}__SUBMIT__PICTURES_PER_REQUEST", provider.submit.get("pictures_per_request", 0)
        ),
        remote=None if provider.mode == "sync" else reader.remote(),
    )
    _check_address(here, service, provider, settings)
    return service


def _check_address(here: str, service: Service, provider: Provider, settings: Settings) -> None:
    if service.sends_links and not settings.url:
        raise SettingFault(
            f"{here}__SUBMIT sends links to pictures, but DARKROOM_URL, the address under which the service can fetch "
            "them from here, is not set; set it, or send ${input.0.data_uri} or ${input.0.bytes} instead."
        )
    if provider.mode == "callback" and not can_be_called(provider, settings):
        raise SettingFault(
            f"{here}__MODE is 'callback', but DARKROOM_URL, the address under which the service can call us, is not "
            "set; set it, or take the mode poll."
        )


class _Reader:
    """The tables of one provider.  Everything raises SettingFault."""

    def __init__(self, here: str, provider: Provider) -> None:
        self._here, self._provider = here, provider
        self._home = self._address("SUBMIT", provider.submit)

    def request(
        self, table_name: str, table: Mapping[str, Any], known: tuple[str, ...], at_hand: _AtHand, method: str
    ) -> RequestTemplate:
        """One request.  method: where the table names none."""
        here = f"{self._here}__{table_name}"
        refuse_unknown(here, table, known)
        template = checked(
            here,
            lambda: request_template(
                read_choice(f"{here}__METHOD", str(table.get("method", method)).upper(), METHODS),
                self._address(table_name, table),
                read_table(f"{here}__HEADERS", table.get("headers", {})),
                read_table(f"{here}__QUERY", table.get("query", {})),
                table.get("body"),
                cast("Encoding", read_choice(f"{here}__ENCODING", table.get("encoding", "json"), ENCODINGS)),
                constants={"model": self._provider.model},
                home=self._home if at_hand.kept else "",
            ),
        )
        secrets, found = self._provider.secrets, template.placeholders
        checked(
            here,
            lambda: check(
                found, secrets=secrets, without=at_hand.without, input_forms=at_hand.forms, kept=at_hand.kept
            ),
        )
        return template

    def remote(self) -> RemoteService:
        """The settings for the remote job that `submit` starts."""
        provider, here = self._provider, self._here
        keep_name = f"{here}__SUBMIT__KEEP"
        keep = {
            key: self._path(f"{keep_name}__{key.upper()}", value)
            for key, value in read_table(keep_name, provider.submit.get("keep", {})).items()
        }
        poll, callback = provider.poll, provider.callback
        if provider.mode == "poll" and not poll.get("url"):
            raise SettingFault(
                f"{here}__POLL__URL is not set, but must be the address that is asked about a job."
            )
        if provider.mode == "callback" and not poll.get("url") and not callback.get("status"):
            raise SettingFault(
                f"{here}__CALLBACK__STATUS is not set, but must be where a report says how the job is, since "
                f"{here}__POLL__URL is not set either."
            )
        refuse_unknown(f"{here}__CALLBACK", callback, _CALLBACK)
        later = _AtHand(without=("callback_url", "traceparent"), kept=tuple(keep))
        ask = self.request("POLL", poll, _POLL, later, "GET") if poll.get("url") else None
        # The result of a finished job may have its own address; it is requested with the same headers.
        fetch = {"url": poll.get("fetch", ""), "headers": poll.get("headers", {})}
        return RemoteService(
            id=self._path(f"{here}__ID", provider.id),
            keep=keep,
            ask=ask,
            job=self._job_rules("POLL", poll),
            interval=self._interval(poll.get("interval", list(USUAL_INTERVAL))),
            fetch=self.request("POLL", fetch, _POLL, later, "GET") if fetch["url"] else None,
            cancel=self._cancel(later.kept),
            reports=self._job_rules("CALLBACK", callback) if callback.get("status") else None,
            report_result=read_paths(f"{here}__CALLBACK__RESULT", callback.get("result", [])),
        )

    def _cancel(self, kept: tuple[str, ...]) -> RequestTemplate | None:
        if not self._provider.cancel:
            return None
        # The order itself is not available when its job is cancelled.
        nothing = _AtHand(
            without=("callback_url", "traceparent", "task_id", "reference", "count", "seed"), kept=kept
        )
        return self.request("CANCEL", self._provider.cancel, _REQUEST, nothing, "POST")

    def _job_rules(self, table_name: str, table: Mapping[str, Any]) -> JobRules:
        here = f"{self._here}__{table_name}"
        states = read_table(f"{here}__MAP", table.get("map", {}))
        for word, state in states.items():
            read_choice(f"{here}__MAP__{word}", state, STATES)
        pending = read_texts(f"{here}__PENDING_HTTP", table.get("pending_http", []))
        return JobRules(
            status=read_path(f"{here}__STATUS", table.get("status", "")),
            states=states,
            pending=frozenset(read_count(f"{here}__PENDING_HTTP", each) for each in pending),
            progress=read_path(f"{here}__PROGRESS", table.get("progress", "")),
            progress_of=read_seconds(f"{here}__PROGRESS_OF", table.get("progress_of", 100)),
        )

    def _interval(self, value: Any) -> tuple[float, float]:
        name = f"{self._here}__POLL__INTERVAL"
        given = value if isinstance(value, list) else [value, value]
        if len(given) != 2:
            raise SettingFault(
                f"{name} is {value!r}, but may be two numbers of seconds: the first and the longest."
            )
        first, longest = (read_seconds(name, each) for each in given)
        return first, max(first, longest)

    def _path(self, here: str, value: Any) -> Path:
        path = read_path(here, value)
        if path is None:
            raise SettingFault(
                f"{here} is not set, but must be the path to the job's id, such as $.output.task_id."
            )
        return path

    def _address(self, table_name: str, table: Mapping[str, Any]) -> str:
        """An address may be a path of the provider's `url`."""
        address = str(table.get("url", ""))
        if address.startswith("/") or not address:
            address = self._provider.url.rstrip("/") + address
        if not address:
            raise SettingFault(
                f"{self._here}__{table_name}__URL is not set, but must be the address that takes the request."
            )
        return address.replace("${model}", self._provider.model)
