"""Build the one `Settings` value: environment over `darkroom.toml` over defaults; or raise one sentence about an error.

A setting is `DARKROOM_NAME` in the environment and `name` in the file; tables are nested with `__` in the first and are
TOML tables in the second.  An empty variable counts as not given.  `DARKROOM_CONFIG` is the path of the file: if it is
not set, `darkroom.toml` in the current folder is read, if it exists; if it is empty, no file is read.

Variables that Kubernetes sets for a Service whose name begins with "darkroom" are no settings, and are not read.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from config.allowed_values import bare, type_at, what_may_be_at
from config.clients import WeChat
from config.provider import Provider
from config.settings import TASK_TYPE_NAME, Credits, Limits, Settings, hide_password
from config.storage import S3, Retention
from config.task_type import TaskType
from config.webhooks import Webhooks

PREFIX = "DARKROOM_"
CONFIG = "DARKROOM_CONFIG"
DEFAULT_FILE = "darkroom.toml"
# The Service darkroom-web brings DARKROOM_WEB_SERVICE_HOST, DARKROOM_WEB_PORT=tcp://10.0.0.1:80, … into each later pod
# of its namespace ("Discovering services" in Kubernetes' documentation), and the Service darkroom brings DARKROOM_PORT.
_SERVICE_VARIABLE = re.compile(
    r"DARKROOM(_[A-Z0-9]+)*"
    r"(_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)=.*|_PORT(_\d+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://.*"
    r"|_PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=.*)"
)

Place = tuple[str, ...]


class SettingsError(Exception):
    """The settings cannot be used; str() is one sentence naming the setting, its value and what it may be."""


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The checked settings.  environ: defaults to the process's.  Raises SettingsError."""
    environ = os.environ if environ is None else environ
    file = _file_path(environ)
    from_file = _read_file(file) if file else {}
    from_environ, spelling = _read_environ(environ)
    try:
        return Settings(**_with_schemas_beside(file, _merge(from_file, from_environ)))
    except ValidationError as error:
        raise SettingsError(_sentence(error, spelling, file)) from None


def environment_of(settings: Settings, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that gives a child process these settings, in any current folder."""
    environ = dict(os.environ if environ is None else environ)
    file = _file_path(environ)
    environ[CONFIG] = str(Path(file).absolute()) if file else ""
    environ["DARKROOM_DATA_DIR"] = str(settings.data_dir)
    environ["DARKROOM_DATABASE_URL"] = settings.database_url
    environ["DARKROOM_STORAGE_URL"] = settings.storage_url
    environ["DARKROOM_PORT"] = str(settings.port)
    return environ


def _file_path(environ: Mapping[str, str]) -> str:
    given = environ.get(CONFIG)
    if given is None:
        return DEFAULT_FILE if os.path.isfile(DEFAULT_FILE) else ""
    return given


def _read_file(path: str) -> dict[str, Any]:
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(
            f"{CONFIG} is {path!r}, but may be the path of a readable TOML file ({reason})."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from None
    table = _lower_names(table)
    for where in _names_in(table):
        _refuse_unknown(where, ".".join(where) + f" in {path}", spell=lambda names: ".".join(names))
    return table


def _with_schemas_beside(file: str, given: dict[str, Any]) -> dict[str, Any]:
    """The settings with paths of schemas resolved from the TOML file's folder."""
    tasks = given.get("tasks")
    if not file or not isinstance(tasks, dict):
        return given
    found = {}
    for name, task_type in tasks.items():
        path = task_type.get("parameters") if isinstance(task_type, dict) else None
        found[name] = (
            {**task_type, "parameters": str(Path(file).absolute().parent / path)}
            if isinstance(path, str)
            else task_type
        )
    return {**given, "tasks": found}


def _read_environ(environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[Place, str]]:
    """The nested values, and the spelling of each name."""
    values: dict[str, Any] = {}
    spelling: dict[Place, str] = {}
    for name in sorted(environ):  # a table given as JSON comes before its parts
        if not name.startswith(PREFIX) or name == CONFIG:
            continue
        if _SERVICE_VARIABLE.fullmatch(f"{name}={environ[name]}"):
            continue
        where = _place_of(name.removeprefix(PREFIX))
        _refuse_unknown(where, name, spell=_variable)
        if environ[name] == "":
            continue
        spelling[where] = name
        table = values
        for part in where[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise SettingsError(f"{name} stands beside {_variable(where[:1])}, which is not a table.")
        value = _parsed(where, environ[name], name)
        if isinstance(value, dict):
            # All members of a type have fixed names, but the names inside a member are free.
            value = _lower_names(value, 2 if where == ("tasks",) else 3) if len(where) == 1 else value
        table[where[-1]] = value
    return values, spelling


def _place_of(name: str) -> Place:
    parts = name.split("__")
    # Of secrets and of variables of a model's processes the names are theirs, not ours.
    has_names_of_theirs = [part.lower() for part in parts[2:3]] in (["secrets"], ["env"])
    keep_case_from = 3 if has_names_of_theirs else len(parts)
    return tuple(part.lower() if n < keep_case_from else part for n, part in enumerate(parts))


def _parsed(where: Place, text: str, name: str) -> Any:
    """The text, or its JSON value if a table or list is allowed."""
    if (where[0] in _groups() or _is_table(where)) and text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except ValueError:
            raise SettingsError(f"{name} begins like JSON, but is not valid JSON.") from None
    return text


def _lower_names(table: dict[str, Any], depth: int = 3) -> dict[str, Any]:
    """Names of settings in lower case; deeper names (headers, templates) stay as they are."""
    if depth == 0:
        return table
    return {
        key.lower(): _lower_names(value, depth - 1) if isinstance(value, dict) and key != "secrets" else value
        for key, value in table.items()
    }


def _names_in(table: dict[str, Any], above: Place = ()) -> list[Place]:
    found: list[Place] = []
    for key, value in table.items():
        where = (*above, key)
        found.append(where)
        if isinstance(value, dict) and (
            _members(where) or (where[0] in ("tasks", "providers") and len(where) == 1)
        ):
            found.extend(_names_in(value, where))
    return found


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        beneath = merged.get(key)
        merged[key] = (
            _merge(beneath, value) if isinstance(beneath, dict) and isinstance(value, dict) else value
        )
    return merged


# --- the existing settings and their allowed values ---


def _groups() -> dict[str, type[BaseModel]]:
    return {
        "tasks": TaskType,
        "providers": Provider,
        "credits": Credits,
        "limits": Limits,
        "wechat": WeChat,
        "s3": S3,
        "retention": Retention,
        "webhooks": Webhooks,
    }


def _members(where: Place) -> dict[str, FieldInfo]:
    """The settings in the table at this place: () is the top; empty where names are free."""
    if not where:
        return Settings.model_fields
    group = _groups().get(where[0])
    named = where[0] in ("tasks", "providers")  # tasks.<type>.…, providers.<name>.…
    depth = 2 if named else 1
    if group is None or len(where) < depth:
        return {}
    for part in where[depth:]:
        field = group.model_fields.get(part)
        inner = field.annotation if field is not None else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return {}
        group = inner
    return group.model_fields


def _variable(where: Place) -> str:
    named = where[0] in ("tasks", "providers")
    return PREFIX + "__".join(part if named and n == 1 else part.upper() for n, part in enumerate(where))


def _refuse_unknown(where: Place, spelled: str, *, spell: Any) -> None:
    """Raises SettingsError, with the nearest existing name, if there is no such setting."""
    for n, part in enumerate(where):
        above = where[:n]
        members = _members(above)
        if members:
            if part not in members:
                _raise_unknown(part, above, sorted(members), spelled, spell)
            if n + 1 < len(where) and not _members(where[: n + 1]) and not _is_table(where[: n + 1]):
                raise SettingsError(
                    f"{spelled} is not a setting: {spell(where[: n + 1])} holds one value, no table."
                )
        elif above == ("tasks",) and not TASK_TYPE_NAME.fullmatch(part):
            raise SettingsError(
                f"{spelled} names a task type {part!r}, but a name may be a small letter and up to 31 more small "
                "letters, digits and _."
            )
        else:
            if above and above[0] in ("tasks", "providers") and n == 1:
                continue
            return


def _raise_unknown(part: str, above: Place, known: list[str], spelled: str, spell: Any) -> None:
    near = difflib.get_close_matches(part, known, n=1, cutoff=0.5)
    guess = f": did you mean {spell((*above, near[0]))}?" if near else "."
    names = ", ".join(name.upper() if spell is _variable else name for name in known)
    raise SettingsError(f"{spelled} is not a setting{guess} It may be one of {names}.")


def _is_table(where: Place) -> bool:
    if where[0] in _groups() and len(where) == 1:
        return True
    field = _members(where[:-1]).get(where[-1])
    return field is not None and (get_origin(field.annotation) is dict)


def _field_at(where: Place) -> FieldInfo | None:
    for end in range(len(where), 0, -1):
        field = _members(where[: end - 1]).get(where[end - 1])
        if field is not None:
            return field
    return None


def _sentence(error: ValidationError, spelling: dict[Place, str], file: str) -> str:
    """The first error, as one sentence.  A secret's value is never in it."""
    first = error.errors(include_url=False)[0]
    where = tuple(str(part) for part in first["loc"])
    if first["type"] == "value_error":
        said = str(
            first["ctx"]["error"]
        )  # errors of a type's or a provider's table begin with the member's name
        return f"{_variable(where[:2])}__{said}" if where[:1] in (("tasks",), ("providers",)) else said
    given_as = next((spelling[where[:n]] for n in range(len(where), 0, -1) if where[:n] in spelling), None)
    name = given_as or (f"{'.'.join(where)} in {file}" if file else _variable(where))
    if first["type"] == "missing":
        variable = _variable(where)
        return f"{variable} is not set, but must be {what_may_be_at(Settings, where)}."
    above = bare(type_at(Settings, where[:-1]))
    if first["type"] == "extra_forbidden" and isinstance(above, type) and issubclass(above, BaseModel):
        return f"{name} holds {where[-1]!r}, but may hold only {', '.join(sorted(above.model_fields))}."
    field = _field_at(where)
    may_be = what_may_be_at(Settings, where)
    hidden = field is None or "secret" in where[-1] or "secrets" in where or where[-1] == "token"
    shown = "" if hidden else f" is {hide_password(str(first['input']))!r}, but"
    return f"{name}{shown} may be {may_be}."
