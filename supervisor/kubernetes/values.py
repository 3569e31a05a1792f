"""The file of values of `darkroom kubernetes`: what it may hold, and sentences about what it may not."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from config.allowed_values import bare, type_at, what_may_be_at, words_of
from config.load_settings import SettingsError, load_settings
from config.settings import Settings, hide_password
from config.settings_group import Count, Group, no_flag
from supervisor.kubernetes import value_kinds

Port = Annotated[int, Field(ge=1, le=65535), BeforeValidator(no_flag)]
Amount = Annotated[int, Field(ge=1, le=64), BeforeValidator(no_flag)]


def _be_text_or_number(given: Any) -> Any:
    if not isinstance(given, str | int | float) or "\0" in str(given):
        raise PydanticCustomError("not_of_its_kind", "it may be another value")
    return given


Setting = Annotated[
    str | int | float | bool,
    BeforeValidator(_be_text_or_number),
    Field(description="text, a number, true or false"),
]

# Stands in for what the Secret will hold while the settings are checked.
_IN_THE_SECRET = {
    "DARKROOM_SECRET": "kJ2v9QpX7mZr4TbW1sYd8LfC6hNg3AeU",
    "DARKROOM_DATABASE_URL": "postgresql://darkroom@database/darkroom",
    "DARKROOM_BROKER_URL": "redis://broker:6379/0",
    "DARKROOM_STORAGE_URL": "s3://pictures/darkroom",
    "DARKROOM_S3__ACCESS_KEY_ID": "in-the-secret",
    "DARKROOM_S3__SECRET_ACCESS_KEY": "in-the-secret",
}
_SECRET_NAME = re.compile(r"secret|token|key|password|authorization|cookie|credential", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"""://[^/\s"'@]*:[^/\s"'@]+@|-----BEGIN [A-Z ]*PRIVATE KEY-----""")
OF_THE_MANIFESTS = {
    "DARKROOM_CONFIG": "it is the file of settings_file",
    "DARKROOM_DATA_DIR": "it is a scratch volume",
    "DARKROOM_HOST": "web listens on every address of its pod",
    "DARKROOM_PORT": "it is 8000",
    "DARKROOM_URL": "it is the value `url`",
    "DARKROOM_WORKER_THREADS": "it is `threads` of a pool in [workers]",
    "DARKROOM_WORKER_TYPES": "it is `types` of a pool in [workers]",
    "DARKROOM_WORKER_OFFERS": "it is `offers` of a pool in [workers]",
}


MOST_SHOWN = 200
LONGEST_DEPLOYMENT = 54  # KEDA makes a name of it that is a label's value


class Part(Group):
    """A Deployment.  cpu, memory: requested; memory is the limit too."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = 2
    cpu: value_kinds.Cpu = "250m"
    memory: value_kinds.Memory = "512Mi"


class Web(Part):
    """host: of an Ingress; empty for none."""

    host: value_kinds.HostOrNone = ""
    ingress_class: value_kinds.ObjectNameOrNone = ""
    tls_secret: value_kinds.ObjectNameOrNone = ""

    @model_validator(mode="after")
    def _have_a_host(self) -> Self:
        for name, value in (("ingress_class", self.ingress_class), ("tls_secret", self.tls_secret)):
            if value and not self.host:
                raise ValueError(f"{name} is {value!r}, but may be set only beside the host of an Ingress")
        return self


class Scale(Group):
    """By KEDA, between two numbers of workers.  wait_seconds: how long the oldest due task may wait."""

    fewest: Annotated[int, Field(ge=0, le=1000)] = 1
    most: Annotated[int, Field(ge=1, le=1000)]
    wait_seconds: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] = 60

    @model_validator(mode="after")
    def _rise(self) -> Self:
        if self.most < max(1, self.fewest):
            raise ValueError(f"most is {self.most}, but may be {max(1, self.fewest)} (fewest) or more")
        return self


class Toleration(Group):
    """A taint of nodes that a pool's pods stand.  toleration_seconds: how long; only with effect NoExecute."""

    key: value_kinds.LabelKeyOrNone = ""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: value_kinds.LabelValue = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: Annotated[int, Field(ge=0, le=31_536_000)] | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError(f"value is {self.value!r}, but may be set only with operator Equal")
        if not self.key and self.operator != "Exists":
            raise ValueError("key is not set, but may be left out only with operator Exists")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("toleration_seconds is set, which may be only with effect NoExecute")
        return self


class Pool(Part):
    """Worker processes of one kind.  devices: resources of the node, such as nvidia.com/gpu, for each worker."""

    memory: value_kinds.Memory = "2Gi"
    threads: Annotated[int, Field(ge=1, le=4096)] = 16
    types: list[str] = Field(default_factory=list)
    offers: dict[value_kinds.Offer, Count] = Field(default_factory=dict)
    devices: dict[value_kinds.Device, Amount] = Field(default_factory=dict)
    node_selector: dict[value_kinds.LabelKey, value_kinds.LabelValue] = Field(default_factory=dict)
    tolerations: list[Toleration] = Field(default_factory=list)
    runtime_class: value_kinds.ObjectNameOrNone = ""
    scale: Scale | None = None


class Peer(Group):
    """Where a database, broker, store or AI server is: addresses, or a namespace of the cluster."""

    cidr: value_kinds.CidrOrNone = ""
    namespace: value_kinds.NamespaceOrNone = ""
    ports: Annotated[list[Port], Field(min_length=1)]

    @model_validator(mode="after")
    def _be_one(self) -> Self:
        if bool(self.cidr) == bool(self.namespace):
            raise ValueError("each entry names either a cidr or a namespace")
        return self


class Network(Group):
    """NetworkPolicies.  peers: what the parts may reach beside DNS and the public internet."""

    policies: bool = True
    ingress_namespace: value_kinds.Namespace = "ingress-nginx"
    peers: list[Peer] = Field(default_factory=list)


class Monitoring(Group):
    """prometheus: its address in the cluster, which KEDA asks."""

    service_monitor: bool = False
    rules: bool = False
    namespace: value_kinds.Namespace = "monitoring"
    prometheus: value_kinds.PrometheusOrNone = ""


class Values(Group):
    name: value_kinds.Name = "darkroom"
    image: value_kinds.Image
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    pull_secrets: list[value_kinds.ObjectName] = Field(default_factory=list)
    service_account: value_kinds.ObjectNameOrNone = ""
    secret: value_kinds.ObjectName
    url: value_kinds.Address
    settings: dict[value_kinds.Variable, Setting] = Field(default_factory=dict)
    settings_file: value_kinds.FileNameOrNone = ""
    files: list[value_kinds.FileName] = Field(default_factory=list)
    web: Web = Web()
    dispatcher: Part = Part(cpu="100m", memory="256Mi")
    scheduler: Part = Part(cpu="50m", memory="256Mi")
    workers: Annotated[dict[value_kinds.Name, Pool], Field(min_length=1)]
    network: Network = Network()
    monitoring: Monitoring = Monitoring()

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if not self.monitoring.prometheus and any(pool.scale for pool in self.workers.values()):
            raise ValueError("monitoring.prometheus is not set, but must be the address that KEDA asks")
        for pool in self.workers:
            if len(deployment := f"{self.name}-worker-{pool}") > LONGEST_DEPLOYMENT:
                raise ValueError(
                    f"the Deployment of workers.{pool} would be called {deployment!r}, which may have up to "
                    f"{LONGEST_DEPLOYMENT} characters: give the system or the pool a shorter name"
                )
        return self


class ValuesError(Exception):
    """The values can't be used; str() is one sentence naming the value and what it may be."""


def read_values(path: Path) -> tuple[Values, Settings, dict[str, str]]:
    """The values, the settings that the parts will have, and the texts of the files beside them by name.

    The settings are checked as the parts check them, with stand-ins for what the Secret will hold.  Raises ValuesError.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        values = Values(**table)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValuesError(f"{path} can't be read: {reason}.") from None
    except ValidationError as error:
        raise ValuesError(_sentence(error, path)) from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is no TOMLDecodeError
        raise ValuesError(f"{path} is not valid TOML: {error}.") from None
    _refuse_secrets(values)
    settings = _settings_of(values, path.parent)
    _refuse_idle_types(values, settings)
    files = _files(values, path.parent)
    _refuse_secrets_of_files(values, files)
    return values, settings, files


def variables(values: Values) -> dict[str, str]:
    """[settings] as environment variables."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.settings.items()
    }


def takers(values: Values, settings: Settings, pool: str) -> list[str]:
    """The types whose tasks make a pool grow: those it can take, less those that only other pools name."""
    mine = values.workers[pool]
    named_elsewhere = {each for name, other in values.workers.items() if name != pool for each in other.types}
    return [
        name
        for name in sorted(settings.tasks)
        if _can_take(mine, name, settings) and (name in mine.types or name not in named_elsewhere)
    ]


def capacity(pool: Pool, types: list[str], settings: Settings) -> int:
    """How many tasks of these types one worker of the pool runs at a time."""
    needs = [settings.tasks[name].needs for name in types]
    bounds = [pool.offers[what] // amount for each in needs for what, amount in each.items()]
    return max(1, min([pool.threads, *bounds]))


def _can_take(pool: Pool, name: str, settings: Settings) -> bool:
    needs = settings.tasks[name].needs
    return (not pool.types or name in pool.types) and all(
        pool.offers.get(each, 0) >= amount for each, amount in needs.items()
    )


def _refuse_secrets(values: Values) -> None:
    for name, value in values.settings.items():
        manifest = next(
            (each for each in OF_THE_MANIFESTS if name == each or name.startswith(each + "__")), None
        )
        if manifest is not None:
            raise ValuesError(f"settings.{name} can't be set here: {OF_THE_MANIFESTS[manifest]}.")
        if _is_secret(name, value):
            raise ValuesError(
                f"settings.{name} is or holds a secret, and manifests are no place for one: make it a key of the "
                f"Secret {values.secret!r}."
            )


def _is_secret(name: str, value: object) -> bool:
    """By its name, or by what it holds.  A number is none (`TOKEN_SECONDS`), nor is text that refers to a secret."""
    if not isinstance(value, str) or not value:
        return False
    return bool((_SECRET_NAME.search(name) and "${" not in value) or _SECRET_TEXT.search(value))


def _refuse_secrets_of_files(values: Values, files: dict[str, str]) -> None:
    """The files become a ConfigMap, which everybody with read access to the namespace can read."""
    for name, text in files.items():
        if _SECRET_TEXT.search(text):
            what = f"{name} holds a secret (a password in an address, or a private key)"
        elif name == values.settings_file and (place := _secret_in(tomllib.loads(text))):
            what = f"{'.'.join(place)} in {name} is a secret"
        else:
            continue
        raise ValuesError(
            f"{what}, and manifests are no place for one: take it out, and make it a key of the Secret "
            f"{values.secret!r}, such as DARKROOM_PROVIDERS__<name>__SECRETS__KEY."
        )


def _secret_in(value: Any, place: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """The place of the first secret in a file of settings.  Types are public, and a service's own name says nothing."""
    if isinstance(value, dict | list):
        named = value.items() if isinstance(value, dict) else ((str(n), each) for n, each in enumerate(value))
        below = ((*place, key) for key, _ in named)
        inner = value.values() if isinstance(value, dict) else value
        found = (_secret_in(each, where) for where, each in zip(below, inner, strict=True))
        return next((each for each in found if each is not None), None)
    if place[0].lower() == "tasks":
        return None
    of_provider = place[0].lower() == "providers"
    return place if _is_secret(".".join(place[2 if of_provider else 0 :]), value) else None


def _settings_of(values: Values, folder: Path) -> Settings:
    file = str(folder / values.settings_file) if values.settings_file else ""
    environ = {**_IN_THE_SECRET, **variables(values), "DARKROOM_CONFIG": file, "DARKROOM_HOST": "0.0.0.0"}
    try:
        return load_settings({**environ, "DARKROOM_URL": values.url, "DARKROOM_DEMO_USER": "false"})
    except SettingsError as error:
        raise ValuesError(str(error)) from None


def _refuse_idle_types(values: Values, settings: Settings) -> None:
    for name, pool in values.workers.items():
        unknown = [each for each in pool.types if each not in settings.tasks]
        if unknown:
            known = ", ".join(sorted(settings.tasks))
            raise ValuesError(f"workers.{name}.types names {unknown[0]!r}, but may name some of: {known}.")
    for name, task_type in settings.tasks.items():
        if not any(_can_take(pool, name, settings) for pool in values.workers.values()):
            needs = ", ".join(f"{what} = {amount}" for what, amount in task_type.needs.items()) or "nothing"
            raise ValuesError(
                f"No pool in [workers] takes the type {name!r} (it needs {needs}): its tasks would wait for ever. Add "
                "a pool, or widen the `types` or `offers` of one."
            )


def _files(values: Values, folder: Path) -> dict[str, str]:
    names = [*([values.settings_file] if values.settings_file else []), *values.files]
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = (folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ValuesError(f"{folder / name} can't be read: {reason}.") from None
    if sum(len(text.encode()) for text in found.values()) > 900_000:
        raise ValuesError("The files are more than the 1 MiB that a ConfigMap may hold.")
    return found


def _sentence(error: ValidationError, path: Path) -> str:
    """The first error, as one sentence."""
    first = error.errors(include_url=False)[0]
    where = tuple(str(part) for part in first["loc"] if part != "[key]")
    name = f"{'.'.join(where)} in {path}" if where else str(path)
    if first["type"] == "value_error":
        return f"{name}: {first['ctx']['error']}."
    if first["loc"][-1:] == ("[key]",):
        names = words_of(get_args(bare(type_at(Values, where[:-1])))[0])
        return f"{'.'.join(where[:-1])} in {path} names {_shown(where[-1])}, but a name there may be {names}."
    if first["type"] == "missing":
        return f"{name} is not set, but must be {what_may_be_at(Values, where)}."
    above = bare(type_at(Values, where[:-1]))
    if first["type"] == "extra_forbidden" and isinstance(above, type) and issubclass(above, Group):
        return f"{name} is no value: it may be one of {', '.join(sorted(above.model_fields))}."
    return f"{name} is {_shown(first['input'])}, but may be {what_may_be_at(Values, where)}."


def _shown(given: object) -> str:
    """A value that was given, without a password, and no longer than a line or two."""
    shown = repr(hide_password(given) if isinstance(given, str) else given)
    return shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}…"
