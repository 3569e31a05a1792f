"""The order of a step, made from the order of its task and the results of the steps before.  Pure.

Terms: an *expression* is `${params.…}` for a member of the order, `${steps.NAME.images.0}` for a result of an earlier
step (also `files.0` and `data.…`), or `${each}`, for what a step with `for_each` is about.  A text that is one
expression becomes its value, of any kind; in a longer text, the value is written into the text.  `$${` is a plain `${`.

A result of an earlier step is named by an *entry*, `steps.NAME.images.0`: beside it stands the file's key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from supervisor.core.errors import BadParams
from supervisor.core.task_params import INPUT_KINDS

EXPRESSION = re.compile(r"\$\$\{|\$\{([^{}]*)\}")
_PLACE = re.compile("[0-9]{1,6}")
NOTHING = object()  # the value of an expression that leads nowhere
_HASHED = ("name", "inputs", "parameters", "prompt", "for_each", "count", "outputs")
MOST_REQUESTS = 64  # of a step with `for_each`


@dataclasses.dataclass(frozen=True)
class StepOrder:
    """params: as those of a task without steps.  keys: {entry: its key in the file store}, of earlier results.

    each: the params of each request, for a step with `for_each`.
    """

    params: dict[str, Any]
    keys: dict[str, str]
    each: tuple[dict[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True)
class _File:
    """A result of an earlier step as the value of an expression.  kind: one of INPUT_KINDS."""

    entry: str
    key: str
    kind: str


def order_of(
    step: Mapping[str, Any], params: Mapping[str, Any], made: Mapping[str, Mapping[str, Any]]
) -> StepOrder:
    """The order of a step.  step: as it was fixed at admission.  params: of the task, with its defaults.

    made: {name of a finished step: {"images": [{"key", …}], "outputs": {"files": [{"key", "media_type", …}], "data"}}},
    the step before last.  Raises BadParams, `invalid_input`, where an expression leads nowhere.
    """
    values = {"params": dict(params), "steps": {name: _values(name, of) for name, of in made.items()}}
    if step["for_each"] is None:
        return _order(step, params, values)
    found = _listed(_needed(step["for_each"], values))
    if len(found) > MOST_REQUESTS:  # a service or a user says how many, and each costs money
        raise BadParams(
            f"{step['for_each']} has {len(found):,} values; a step makes up to {MOST_REQUESTS} requests.",
            "invalid_input",
        )
    orders = [_order(step, params, {**values, "each": one}) for one in found]
    keys = {entry: key for order in orders for entry, key in order.keys.items()}
    return StepOrder(
        orders[0].params if orders else dict(params), keys, tuple(order.params for order in orders)
    )


def step_of_entry(entry: str) -> str | None:
    """The name of the step whose result an entry names; None for an upload or an address."""
    names = entry.split(".")
    return names[1] if names[0] == "steps" and len(names) == 4 else None


def progress_of(steps: Sequence[Mapping[str, Any]], step: int, percent: int) -> int:
    """Percent of the task, from that of a step, by the steps' weights; it never falls from one step to the next."""
    # Exact: rounded sums of one step's end and the next one's beginning may lie on both sides of a percent.
    weights = [Fraction(each["weight"]) for each in steps]
    done = sum(weights[:step]) * 100 + weights[step] * min(100, max(0, percent))
    return int(done / sum(weights))


def hash_of_step(steps: Sequence[Mapping[str, Any]], step: int, params: Mapping[str, Any]) -> str:
    """Equal where a step makes the same again: a hash of the order, and of this step and those before.

    Providers, limits and weights are no part of it: they change who makes a picture, and when.  What a step may return
    is: a later step may use data that the earlier one did not store.
    """
    made_from = [params, [[each[name] for name in _HASHED] for each in steps[: step + 1]]]
    text = json.dumps(made_from, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _values(name: str, made: Mapping[str, Any]) -> dict[str, Any]:
    """What expressions find behind `steps.NAME`."""
    outputs = made["outputs"] or {}
    return {
        "images": [
            _File(f"steps.{name}.images.{n}", each["key"], "images") for n, each in enumerate(made["images"])
        ],
        "files": [
            _File(f"steps.{name}.files.{n}", each["key"], _kind_of(each["media_type"]))
            for n, each in enumerate(outputs.get("files", ()))
        ],
        "data": outputs.get("data"),
    }


def _kind_of(media_type: str) -> str:
    return {"image": "images", "video": "videos", "audio": "audio"}.get(media_type.split("/")[0], "files")


def _order(step: Mapping[str, Any], params: Mapping[str, Any], values: Mapping[str, Any]) -> StepOrder:
    order = dict(params)
    keys: dict[str, str] = {}
    inputs = _inputs(step, values)
    if inputs is not None:
        order = {name: value for name, value in order.items() if name not in INPUT_KINDS}
        for kind, entry, key in inputs:
            order.setdefault(kind, []).append(entry)
            if key is not None:
                keys[entry] = key
    if step["prompt"] is not None:
        order["prompt"] = _text(_resolved(step["prompt"], values))
    if step["parameters"] is not None:
        order["parameters"] = _plain(_resolved(step["parameters"], values))
    return StepOrder(order, keys)


def _inputs(step: Mapping[str, Any], values: Mapping[str, Any]) -> list[tuple[str, str, str | None]] | None:
    """(kind, entry, key) of a step's inputs; None for those of the order.  key: None for what the order names."""
    if step["inputs"] is None:
        if not values["steps"]:
            return None
        before = list(values["steps"].values())[-1]  # it may have made data alone
        found = [*before["images"], *before["files"]]
    else:
        found = [one for each in step["inputs"] for one in _listed(_needed(each, values))]
        if not found:
            raise BadParams("The steps before have made nothing for this step to work on.", "invalid_input")
    return [_input(each, values["params"]) for each in found]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _input(value: Any, params: Mapping[str, Any]) -> tuple[str, str, str | None]:
    if isinstance(value, _File):
        return value.kind, value.entry, value.key
    for kind in INPUT_KINDS:
        if isinstance(value, str) and value in params.get(kind, ()):
            return kind, value, None
    raise BadParams(
        f"{_text(value)!r} is none of the order's inputs, and no result of a step.", "invalid_input"
    )


def _resolved(given: Any, values: Mapping[str, Any]) -> Any:
    """A value of the declaration, with its expressions replaced by what they mean; members without a value are left
    out."""
    if isinstance(given, dict):
        found = {name: _resolved(value, values) for name, value in given.items()}
        return {name: value for name, value in found.items() if value is not NOTHING}
    if isinstance(given, list):
        return [value for each in given if (value := _resolved(each, values)) is not NOTHING]
    if not isinstance(given, str):
        return given
    whole = EXPRESSION.fullmatch(given)
    if whole and whole[1] is not None:
        return _found(whole[1], values)
    return EXPRESSION.sub(lambda match: "${" if match[1] is None else _text(_found(match[1], values)), given)


def _needed(expression: str, values: Mapping[str, Any]) -> Any:
    """The value of a text that is one expression.  Raises BadParams where it has none."""
    found = _resolved(expression, values)
    if found is NOTHING:
        raise BadParams(f"{expression} has no value: the step before it has not made that.", "invalid_input")
    return found


def _found(expression: str, values: Mapping[str, Any]) -> Any:
    """The value of an expression, NOTHING where it has none."""
    value: Any = values
    for name in expression.split("."):
        if isinstance(value, list) and _PLACE.fullmatch(name) and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict) and name in value:
            value = value[name]
        else:
            return NOTHING
    return value


def _text(value: Any) -> str:
    if value is NOTHING:
        return ""
    if isinstance(value, _File):
        return value.entry
    return value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Results of steps by their entries, everything else as it is."""
    if isinstance(value, _File):
        return value.entry
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value
