"""All settings, their defaults, and checks of their combinations.

One frozen value is built by `config.load_settings` and handed down; nothing else reads the environment.
The names are those of the contract in lower case (`settings.lease_seconds` is `DARKROOM_LEASE_SECONDS`), units are in
the names, and a number without a unit counts things.  Secrets are `SecretStr`: they print as stars.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from config.clients import Networks, Origins, TranslationPrefixes, WeChat, listed
from config.declarations import declared_types, over_declaration, scenes_at
from config.provider import PROVIDER_NAME, Provider
from config.secret_strength import MAY_BE, weakness
from config.settings_group import Count, Group, Seconds, Table, mistake_in_names, number_in
from config.storage import S3, Retention
from config.task_type import TaskType
from config.webhooks import Webhooks

TASK_TYPE_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_POSTGRES = ("postgresql", "postgres")
POLL_MARGIN_SECONDS = 30.0
WorkerTypes = Annotated[tuple[str, ...], BeforeValidator(listed)]


class Credits(Group):
    enabled: bool = True
    signup_grant: Annotated[int, Field(ge=0, le=1_000_000_000)] = 100


class Limits(Group):
    """0 = no limit."""

    open_tasks_per_user: Count = 20
    running_tasks_per_user: Count = 4
    pending_tasks: Count = 100_000
    streams_per_user: Count = 10
    image_bytes: Count = 20_971_520
    image_pixels: Count = 40_000_000
    video_bytes: Count = 67_108_864
    audio_bytes: Count = 33_554_432
    file_bytes: Count = 33_554_432
    logins_per_minute: Count = 60  # from one address, to one web process
    # Of one user, or of one address without a valid token; the next three are parts of it.
    requests_per_minute: Count = 600
    orders_per_minute: Count = 120
    uploads_per_minute: Count = 120
    tickets_per_minute: Count = 60

    @property
    def bytes_by_kind(self) -> dict[str, int]:
        """The largest size of a file, by its list of `params`; 0 for no limit."""
        return {
            "images": self.image_bytes,
            "videos": self.video_bytes,
            "audio": self.audio_bytes,
            "files": self.file_bytes,
        }


class Settings(Table):
    """All settings.  Frozen; made by `load_settings`, or in tests by naming the values that differ."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    # Templates: {data_dir} stands for the absolute data folder.  Not in repr: they may hold a password.
    database_url: str = Field(default="sqlite:///{data_dir}/darkroom.db", repr=False)
    database_listen_url: str = Field(default="", repr=False)  # directly to the server, past a pooler
    database_connections: Annotated[int, Field(ge=2, le=1000)] = 8  # to PostgreSQL, per process, at most
    broker_url: str = Field(default="", repr=False)
    storage_url: str = Field(default="file://{data_dir}/files", repr=False)
    data_dir: Path = Path("./var")
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    secret: SecretStr | None = None
    secret_before: SecretStr | None = None  # still verifies, signs nothing: while SECRET is being changed
    url: str = ""
    token: SecretStr | None = None
    demo_user: bool = True
    allowed_origins: Origins = ()  # origins of pages that may call the API from a browser; our own always may
    trusted_proxies: Networks = ("127.0.0.0/8", "::1/128")  # proxies with a trusted X-Forwarded-For
    # of NAT64 in the own network: the IPv4 address inside is checked
    translation_prefixes: TranslationPrefixes = ()
    worker_processes: Annotated[int, Field(ge=1, le=256)] = 2
    worker_threads: Annotated[int, Field(ge=1, le=4096)] = 16  # task slots of a process
    worker_offers: dict[str, Count] = Field(default_factory=dict)  # of one process, to types that need them
    worker_types: WorkerTypes = ()  # the only ones that a worker takes; none: all
    # 0 = never.
    worker_exit_when_idle_seconds: Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)] = 0
    image_processes: Annotated[int, Field(ge=1, le=256)] = 1  # children for image code, per worker process
    lease_seconds: Seconds = 15
    heartbeat_seconds: Seconds = 5
    stuck_grace_seconds: Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)] = 30
    drain_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 30
    feed_retention_seconds: Seconds = 3600
    file_link_seconds: Seconds = 86400
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    tasks: dict[str, TaskType] = Field(default_factory=dict)
    providers: dict[str, Provider] = Field(default_factory=dict)
    credits: Credits = Credits()
    limits: Limits = Limits()
    wechat: WeChat = WeChat()
    s3: S3 = S3()
    retention: Retention = Retention()
    webhooks: Webhooks = Webhooks()

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        given = dict(given)
        lease = number_in(given.get("lease_seconds"))
        if lease is not None and 0 < lease < 10 and "heartbeat_seconds" not in given:
            given["heartbeat_seconds"] = lease / 3  # a third: two beats may be lost before a rescue
        if isinstance(given.get("providers", {}), dict):
            given["providers"] = _with_studio(given.get("providers", {}))
        if isinstance(given.get("tasks", {}), dict):
            given["tasks"] = _with_declared(given.get("tasks", {}), given.get("providers"))
        return given

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        return Path(os.path.abspath(folder.expanduser()))

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        _set(self, "database_url", _database_address(self.database_url, self.data_dir))
        _set(self, "database_listen_url", _listen_address(self.database_listen_url))
        _set(self, "storage_url", _storage_address(self.storage_url, self.data_dir))
        _check_scheme(
            "BROKER_URL", self.broker_url, ("redis", "rediss", "unix"), "empty (an embedded server)"
        )
        _check_scheme("URL", self.url, ("http", "https"), "empty (the address that `up` wrote)")
        _check_scheme("WECHAT__URL", self.wechat.url, ("http", "https"), "")
        _check_lease(self.lease_seconds, self.heartbeat_seconds)
        _check_secret("SECRET", self.secret)
        _check_secret("SECRET_BEFORE", self.secret_before)
        _check_door(self.host, self.secret)
        _check_providers(self.providers)
        for provider in self.providers.values():
            _ = provider.repeats_itself  # its file is read now, and not while a request waits
        for name, task_type in self.tasks.items():
            _check_task_type(name, task_type, self.providers)
        if mistake := mistake_in_names(self.worker_offers):
            raise ValueError(f"DARKROOM_WORKER_OFFERS {mistake}")
        for name in self.worker_types:
            if name not in self.tasks:
                known = ", ".join(sorted(self.tasks))
                raise ValueError(f"DARKROOM_WORKER_TYPES names {name!r}, but may name some of: {known}.")
        _check_names_at_doors(self.tasks)
        return self

    @functools.cached_property
    def needs_of_types(self) -> dict[str, dict[str, int]]:
        """{type: needs}, of the types with needs."""
        return {name: task_type.needs for name, task_type in self.tasks.items() if task_type.needs}

    @functools.cached_property
    def most_needs_of_types(self) -> dict[str, dict[str, int]]:
        """{type: what a worker must offer for each of its steps}, of the types that need something at some step."""
        most = {name: dict(needs) for name, needs in self.needs_of_types.items()}
        for name, task_type in self.tasks.items():
            for step in task_type.steps:
                for offer, amount in step.needs.items():
                    of_type = most.setdefault(name, {})
                    of_type[offer] = max(amount, of_type.get(offer, 0))
        return most

    @property
    def names_of_offers(self) -> tuple[str, ...]:
        """Names of all that types or their steps need, or that a worker of these settings offers."""
        needs = [
            *self.needs_of_types.values(),
            *(step.needs for of in self.tasks.values() for step in of.steps),
        ]
        return tuple(sorted({*self.worker_offers, *(name for of in needs for name in of)}))

    @property
    def providers_that_may_bill_twice(self) -> frozenset[str]:
        """Names of the providers that may get an unanswered request again."""
        return frozenset(name for name, provider in self.providers.items() if provider.may_bill_twice)

    @property
    def silent_seconds(self) -> float:
        """The age of its last heartbeat at which a worker begins nothing more and cancels its attempts.

        It is one heartbeat interval before the end of the lease, when the dispatcher gives its tasks to others.
        """
        return self.lease_seconds - self.heartbeat_seconds

    @property
    def providers_in_use(self) -> frozenset[str]:
        """Names of the providers that tasks may go to."""
        return frozenset(name for task_type in self.tasks.values() for name in task_type.all_providers)

    @property
    def on_loopback(self) -> bool:
        """Whether only this host can reach the web part."""
        return is_loopback(self.host)

    @property
    def lets_demo_in(self) -> bool:
        """Whether requests without a token from this host belong to the demo user."""
        return self.demo_user and self.on_loopback


@functools.lru_cache(maxsize=64)  # the same few, several times at every request
def is_loopback(host: str) -> bool:
    """True for `localhost` and for the addresses 127.0.0.0/8 and ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def hide_password(address: str) -> str:
    """The address with its password, if it has one, as stars: safe for a message or a log."""
    address = re.sub(r"(?<=://)([^/@:]*):([^@]*)@", r"\1:***@", address)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", address)  # as in unix://


def _with_studio(providers: dict[str, Any]) -> dict[str, Any]:
    studio = providers.get("studio", {})
    return {**providers, "studio": {"kind": "studio", **studio} if isinstance(studio, dict) else studio}


def _with_declared(tasks: dict[str, Any], providers: Any) -> dict[str, Any]:
    """The settings' tables merged over the declarations; other values are refused elsewhere."""
    kinds = {
        name: each.kind if isinstance(each, Provider) else str(each.get("kind"))
        for name, each in (providers if isinstance(providers, dict) else {}).items()
        if isinstance(each, Provider | dict)
    }
    together: dict[str, Any] = {}
    for name in dict.fromkeys((*declared_types(), *tasks)):
        given = tasks.get(name, {})
        if isinstance(given, TaskType):
            given = {each: getattr(given, each) for each in given.model_fields_set}
        together[name] = over_declaration(name, given, kinds) if isinstance(given, dict) else given
    return together


def _set(settings: Settings, name: str, value: Any) -> None:
    settings.__dict__[name] = value  # frozen for everyone else


def _check_scheme(name: str, address: str, schemes: tuple[str, ...], otherwise: str) -> None:
    if not address and otherwise:
        return
    if urlsplit(address).scheme not in schemes:
        may_be = ", ".join([*([otherwise] if otherwise else []), *(f"{scheme}://…" for scheme in schemes)])
        raise ValueError(f"DARKROOM_{name} is {hide_password(address)!r}, but may be {may_be}.")


def _database_address(given: str, data_dir: Path) -> str:
    address = given.replace("{data_dir}", str(data_dir))
    if address.startswith("sqlite:///"):
        path = address.removeprefix("sqlite:///")
        if path and path != ":memory:":
            return "sqlite:///" + os.path.abspath(path)
    elif urlsplit(address).scheme in _POSTGRES:
        return _postgres_address(address)
    raise ValueError(
        f"DARKROOM_DATABASE_URL is {hide_password(given)!r}, but may be sqlite:///path/of/a/file or "
        "postgresql://user:password@host/name."
    )


def _listen_address(given: str) -> str:
    _check_scheme("DATABASE_LISTEN_URL", given, _POSTGRES, "empty (DATABASE_URL)")
    return _postgres_address(given)


def _postgres_address(address: str) -> str:
    """With the longer of the scheme's two names."""
    return re.sub("^postgres://", "postgresql://", address)


def _storage_address(given: str, data_dir: Path) -> str:
    address = given.replace("{data_dir}", str(data_dir))
    if address.startswith("file://") and address.removeprefix("file://"):
        return "file://" + os.path.abspath(address.removeprefix("file://"))
    if re.fullmatch(r"s3://[^/]+(/.*)?", address):
        return address
    raise ValueError(
        f"DARKROOM_STORAGE_URL is {hide_password(given)!r}, but may be file:///path/of/a/folder or s3://bucket/prefix."
    )


def _check_lease(lease: float, heartbeat: float) -> None:
    if heartbeat * 2 > lease:
        raise ValueError(
            f"DARKROOM_HEARTBEAT_SECONDS is {heartbeat:g}, but may be at most half of DARKROOM_LEASE_SECONDS "
            f"({lease:g}): one lost beat must not look like a death."
        )


def _check_door(host: str, secret: SecretStr | None) -> None:
    if not host or re.search(r"[\s/@]", host):
        raise ValueError(
            f"DARKROOM_HOST is {host!r}, but may be an address or a host name such as 127.0.0.1."
        )
    if not is_loopback(host) and secret is None:
        raise ValueError(
            f"DARKROOM_SECRET is not set, but must be a long random text when DARKROOM_HOST is {host!r}, "
            "which others can reach: it signs tokens and file links. `darkroom secret` prints one."
        )


def _check_secret(name: str, secret: SecretStr | None) -> None:
    if secret is not None and (trouble := weakness(secret.get_secret_value())):
        raise ValueError(f"DARKROOM_{name} {trouble}, but {MAY_BE}.")


def _check_providers(providers: dict[str, Provider]) -> None:
    for name in providers:
        if not PROVIDER_NAME.fullmatch(name):
            raise ValueError(
                f"DARKROOM_PROVIDERS__{name} names a provider {name!r}, but a name may be a small letter and up to "
                "31 more small letters, digits, - and _."
            )


def _check_names_at_doors(tasks: dict[str, TaskType]) -> None:
    taken: dict[tuple[str, str], str] = {}
    for type_, task_type in tasks.items():
        for door, name in task_type.doors.names.items():
            other = taken.setdefault((door, name), type_)
            if other != type_:
                raise ValueError(
                    f"TASKS__{type_}__DOORS__{door.upper()} is {name!r}, which is the name of the type {other} there."
                )


def _check_task_type(name: str, task_type: TaskType, providers: dict[str, Provider]) -> None:
    setting = f"DARKROOM_TASKS__{name}"
    if not TASK_TYPE_NAME.fullmatch(name):
        raise ValueError(
            f"{setting} names a task type {name!r}, but a name may be a small letter and up to 31 more small "
            "letters, digits and _."
        )
    for step in task_type.steps:
        for each in step.chain:
            if each not in providers:
                known = ", ".join(sorted(providers))
                raise ValueError(
                    f"{setting}__STEPS: the step {step.name!r} names the provider {each!r}, but may name one of: "
                    f"{known}."
                )
    if task_type.provider not in providers:
        known = ", ".join(sorted(providers))
        raise ValueError(f"{setting}__PROVIDER is {task_type.provider!r}, but may be one of: {known}.")
    for part, names in (("FALLBACK", task_type.fallback), ("ALLOW_PROVIDERS", task_type.allow_providers)):
        unknown = [each for each in names if each not in providers]
        if unknown:
            known = ", ".join(sorted(providers))
            raise ValueError(f"{setting}__{part} names {unknown[0]!r}, but may name some of: {known}.")
    _check_scenes(name, task_type, providers)
    if task_type.ai_timeout_seconds >= task_type.time_limit_seconds:
        raise ValueError(
            f"{setting}__AI_TIMEOUT_SECONDS is {task_type.ai_timeout_seconds:g}, but may be anything below "
            f"{setting}__TIME_LIMIT_SECONDS ({task_type.time_limit_seconds:g}): an attempt must outlive its AI call."
        )


def _check_scenes(name: str, task_type: TaskType, providers: dict[str, Provider]) -> None:
    """Check scenes: some kinds of provider know only a few scenes of a declared type."""
    if task_type.steps:
        return
    kinds: set[str] = {providers[each].kind for each in task_type.all_providers if each in providers}
    bound = scenes_at(name, kinds)
    if bound is None:
        return
    kind, scenes = bound
    unknown = [scene for scene in task_type.scenes if scene not in scenes]
    if unknown:
        raise ValueError(
            f"DARKROOM_TASKS__{name}__SCENES names {unknown[0]!r}, but may name some of {', '.join(scenes)} as long as "
            f"the type may go to the {kind}; name another PROVIDER, and no FALLBACK or ALLOW_PROVIDERS that leads back "
            "to it."
        )
