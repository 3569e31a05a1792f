"""Tables of settings read into checked values, or one sentence that names the setting.

An error in a template or a path is found when a process starts, not when a task uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from actors.providers.common import answers
from actors.providers.common.answers import Rules
from actors.providers.common.costs import parse_cost_place
from actors.providers.common.paths import BadPath, Path, parse_path
from actors.providers.common.template import BadTemplate, MissingSecret
from config.provider import Provider
from config.settings import Settings
from supervisor.core.errors import SettingFault
from supervisor.telemetry.secret_filter import secret_filter

T = TypeVar("T")

ERROR_KEYS = ("code", "picture_code", "message", *answers.CLASSES)


def setting_name(provider: str) -> str:
    """The prefix of a provider's settings in the environment."""
    return f"DARKROOM_PROVIDERS__{provider}"


def read_secrets(provider: Provider) -> dict[str, str]:
    """The secrets in plain text, only for requests."""
    return {key: value.get_secret_value() for key, value in provider.secrets.items()}


def can_be_called(provider: Provider, settings: Settings) -> bool:
    """Whether there is an address for the service's reports; one in our own network is enough."""
    return bool(settings.url) or provider.allow_private_addresses


def read_rules(
    name: str, provider: Provider, settings: Settings, *, usual: Mapping[str, Sequence[str]] | None = None
) -> Rules:
    """The paths in a service's answers.  usual: the defaults.

    Raises SettingFault.
    """
    here = setting_name(name)
    refuse_unknown(f"{here}__ERROR", provider.error, ERROR_KEYS)
    known = {key: list(value) for key, value in (usual or {}).items()}
    error = known | provider.error
    return Rules(
        result=read_paths(f"{here}__RESULT", provider.result or known.get("result", [])),
        files=read_paths(f"{here}__FILES", provider.files),
        data=read_path(f"{here}__DATA", provider.data),
        cost=checked(f"{here}__COST", lambda: parse_cost_place(provider.cost)) if provider.cost else None,
        code=read_paths(f"{here}__ERROR__CODE", error.get("code", [])),
        picture_code=read_paths(f"{here}__ERROR__PICTURE_CODE", error.get("picture_code", [])),
        message=read_paths(f"{here}__ERROR__MESSAGE", error.get("message", [])),
        classes={
            each: read_texts(f"{here}__ERROR__{each.upper()}", error.get(each, []))
            for each in answers.CLASSES
        },
        hide=secret_filter(settings),
    )


def checked(here: str, make: Callable[[], T]) -> T:
    """The result of `make` for a template or path; its error becomes a SettingFault about the setting `here`."""
    try:
        return make()
    except MissingSecret as error:
        provider = "__".join(here.split("__")[:2])
        wanted = f"{provider}__SECRETS__{error.secret}"
        raise SettingFault(f"{here}: {error}; give it in the environment as {wanted}.") from None
    except (BadTemplate, BadPath) as error:
        raise SettingFault(f"{here}: {error}.") from None


def read_paths(here: str, value: Any) -> tuple[Path, ...]:
    """A list of paths.  Raises SettingFault, as all of these do."""
    return checked(here, lambda: tuple(map(parse_path, read_texts(here, value))))


def read_path(here: str, value: Any) -> Path | None:
    """A path; None for an empty text."""
    if not isinstance(value, str):
        raise SettingFault(f"{here} is {value!r}, but may be a path such as $.output.task_id.")
    return checked(here, lambda: parse_path(value)) if value else None


def read_texts(here: str, value: Any) -> tuple[str, ...]:
    """A list of texts; one text is a list of one."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(each, str | int) for each in given):
        raise SettingFault(f"{here} is {value!r}, but may be a list of texts.")
    return tuple(str(each) for each in given)


def read_table(here: str, value: Any) -> dict[str, Any]:
    """A table."""
    if not isinstance(value, dict):
        raise SettingFault(f"{here} may be a table.")
    return value


def read_choice(here: str, value: Any, choices: Sequence[str]) -> str:
    """One of several texts."""
    if value not in choices:
        raise SettingFault(f"{here} is {value!r}, but may be one of {', '.join(choices)}.")
    return str(value)


def read_count(here: str, value: Any, *, most: int = 9999) -> int:
    """A whole number from 0; from the environment it comes as text."""
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or len(text) > 9 or int(text) > most:
        raise SettingFault(f"{here} is {value!r}, but may be a whole number from 0 up to {most}.")
    return int(text)


def read_seconds(here: str, value: Any) -> float:
    """A number of seconds above 0."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise SettingFault(f"{here} is {value!r}, but may be a number of seconds above 0 up to 86400.")
    return seconds


def refuse_unknown(here: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raises SettingFault for the first unknown name."""
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise SettingFault(
            f"{here}__{unknown[0].upper()} is not a setting; it may be one of {', '.join(known)}."
        )
