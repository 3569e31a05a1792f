"""`darkroom types`, and `darkroom submit TYPE`: a command with the options that the type declares."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from supervisor.cli.base import Failed, settings_of_command
from supervisor.cli.shown.output import json_option, print_json

_TYPE = f"{__name__}.type"
_TYPES = f"{__name__}.types"
_OF_PARAMETERS = "parameters."
_OPTION = re.compile("[A-Za-z][A-Za-z0-9_-]*")
_CLICK_TYPES: Mapping[str, click.ParamType[Any]] = {
    "integer": click.INT,
    "number": click.FLOAT,
    "boolean": click.BOOL,
    "string": click.STRING,
}


@click.command()
@json_option
def types(as_json: bool) -> None:
    """List the types for orders: inputs, pictures, scenes, parameters and price of each.

    \b
    darkroom types
    darkroom types --json | jq '.[].parameters'
    darkroom submit TYPE --help
    """
    declared = declared_types()
    if as_json:
        print_json(declared)
        return
    for each in declared:
        title = each["title"].get("en") or next(iter(each["title"].values()), "")
        click.echo(f"{each['type']:16} {title}")
        for line in _lines_of(each):
            click.echo(f"{'':16} {line}")


def declared_types() -> list[dict[str, Any]]:
    """The answer of `GET /v1/types`: from the service at URL, or from the settings of this host.  Raises Failed."""
    settings = settings_of_command()
    if not settings.url:
        from supervisor.core.shown_types import shown_types

        return shown_types(settings)
    from supervisor.cli.api_client import Api, ApiError

    async def ask() -> list[dict[str, Any]]:
        async with Api(settings.url, "") as api:
            return list((await api.call("GET", "/v1/types"))["items"])

    try:
        return asyncio.run(ask())
    except ApiError as error:
        raise Failed(str(error)) from None


class TypedOrder(click.Command):
    """A command with a type as argument and that type's parameters as options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_TYPES] = {each["type"]: each for each in declared_types()}
        named = (each for each in args if each in ctx.meta[_TYPES])
        ctx.meta[_TYPE] = ctx.meta[_TYPES].get(next(named, ""))
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = list(super().get_params(ctx))
        taken = {option for each in params for option in each.opts}
        declared = ctx.meta.get(_TYPE) or {}
        members = declared.get("parameters", {}).get("properties", {})
        for name, schema in members.items():
            option = f"--{_dashed(name)}"
            if option not in taken and _OPTION.fullmatch(name):
                taken.add(option)  # of size_x and size-x the first one
                params.append(_option(name, schema))
        return params

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        declared = ctx.meta.get(_TYPE)
        if declared is None:
            with formatter.section("Types"):
                formatter.write_text(
                    ", ".join(ctx.meta.get(_TYPES, {})) + "; `submit TYPE --help` tells more"
                )
            return
        with formatter.section(declared["type"]):
            for line in _lines_of(declared):
                formatter.write_text(line)


def type_of(ctx: click.Context) -> dict[str, Any] | None:
    """The declaration of the type in the command, if it is known."""
    declared: dict[str, Any] | None = ctx.meta.get(_TYPE)
    return declared


def parameters_of(given: Mapping[str, Any], whole: str | None) -> dict[str, Any]:
    """`params.parameters` from the options.  whole: JSON, or `@file`; single options lie over it.

    Raises UsageError.
    """
    parameters: Any = {}
    if whole is not None:
        try:
            text = Path(whole[1:]).read_text(encoding="utf-8") if whole.startswith("@") else whole
            parameters = json.loads(text)
        except (OSError, ValueError) as error:
            raise click.UsageError(f"--parameters is no JSON: {error}.") from None
        if not isinstance(parameters, dict):
            raise click.UsageError("--parameters must be a JSON object.")
    single = {
        name.removeprefix(_OF_PARAMETERS): value
        for name, value in given.items()
        if name.startswith(_OF_PARAMETERS) and value is not None
    }
    return {**parameters, **single}


class _Json(click.ParamType[Any]):
    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return json.loads(value)
        except ValueError:
            self.fail(f"{value!r} is no JSON.", param, ctx)


def _option(name: str, schema: Any) -> click.Option:
    schema = schema if isinstance(schema, dict) else {}
    said = str(schema.get("description") or schema.get("title") or "")
    if "default" in schema:
        said = f"{said}  [default: {json.dumps(schema['default'], ensure_ascii=False)}]".strip()
    choices = schema.get("enum")
    kind: click.ParamType[Any]
    if isinstance(choices, list) and choices and all(isinstance(each, str) for each in choices):
        kind = click.Choice(choices)
    else:
        kind = _CLICK_TYPES.get(str(schema.get("type")), _Json())
    option = click.Option([f"--{_dashed(name)}"], type=kind, help=said or None)
    option.name = f"{_OF_PARAMETERS}{name}"  # not a Python name, so it can't be in the list above
    return option


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _lines_of(declared: Mapping[str, Any]) -> Sequence[str]:
    inputs = [f"{_between(*bounds)} {kind}" for kind, bounds in declared["inputs"].items() if bounds[1]] or [
        "nothing"
    ]
    schema = declared["parameters"]
    lines = [
        f"takes {', '.join(inputs)}; makes {_between(*declared['count'])} of {', '.join(declared['outputs'])}"
    ]
    if declared["scenes"]:
        lines.append(f"scenes: {', '.join(declared['scenes'])}")
    if schema:
        required = set(schema.get("required", ()))
        names = [f"{name}*" if name in required else name for name in schema.get("properties", {})]
        lines.append(f"parameters (* required): {', '.join(names)}")
    if declared.get("steps"):  # a server of an older program names none
        lines.append(f"steps: {', '.join(declared['steps'])}")
    price = declared["price"]
    base = f"{price['base']} and " if price["base"] else ""
    return [*lines, f"costs {base}{price['credits']:g} a {price['per']}" + _factors(price["by"])]


def _factors(by: Sequence[Mapping[str, Any]]) -> str:
    said = [
        f"times {each['times']:g} where "
        + " and ".join(f"{name} = {json.dumps(value)}" for name, value in each["where"].items())
        for each in by
    ]
    return "".join(f"; {each}" for each in said)


def _between(fewest: int, most: int) -> str:
    return str(fewest) if fewest == most else f"{fewest}-{most}"


COMMANDS = [types]
