"""A claim at one step of its task: the order of the step in place of the task's.

The steps stand in the task's row as they were fixed at its admission, and the results of finished steps beside
it.  From both follows what this step is to make, from which inputs.  All that comes after, requests, evidence and
results, then deals with the step as with a task that has no steps.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from actors.providers.base import Postponed
from config.settings import Settings
from supervisor.core.claim import Claim
from supervisor.core.errors import BadParams, LeaseLost
from supervisor.database.interface.database import Transaction
from supervisor.steps.step_orders import hash_of_step, order_of, progress_of
from supervisor.store.tasks import steps

_ALL_PICTURES = re.compile(r"\$\{steps\.(\w+)\.images\}")


def refuse_before_steps(settings: Settings, claim: Claim) -> Claim:
    """A claim of a task that was admitted before its type had steps may only come from a dispatcher with older
    settings: it is given back, and the dispatcher of these settings gives the task its steps."""
    task_type = settings.tasks.get(claim.type)
    if claim.lane or task_type is None or not task_type.steps:
        return claim
    mistake = Postponed("The type of this task has got steps since it was admitted.", wait_seconds=1.0)
    return dataclasses.replace(claim, mistake=mistake)


def at_step(tx: Transaction, settings: Settings, claim: Claim) -> Claim:
    """The claim with the order of its step; unchanged for a type without steps.

    Where the order can't be made, because a step before gave no picture, the claim says so: `mistake`.
    """
    if not claim.lane:
        return claim
    told = steps.results(tx, *claim.of_step)
    if told is None:
        return dataclasses.replace(claim, mistake=LeaseLost(claim.task_id, claim.lease))
    fixed, params = told.fixed, _filled(settings, claim)
    known = dataclasses.replace(
        claim, fixed=tuple(fixed), params_hash=hash_of_step(fixed, claim.step, claim.params)
    )
    step = fixed[claim.step]
    try:
        order = order_of(step, params, told.made)
        if step["for_each"] and not order.each:
            raise BadParams(
                f"There is nothing to make for each: {step['for_each']} is empty.", "invalid_input"
            )
    except BadParams as mistake:
        return dataclasses.replace(known, mistake=mistake)
    count = len(order.each) or (claim.count if step["count"] else 1)
    return dataclasses.replace(
        known,
        params={**order.params, "count": count},
        image_keys={**claim.image_keys, **order.keys},
        count=count,
        ordered=claim.count,
        lacking=_lacking(step, told.made),
        each=tuple({**each, "count": 1} for each in order.each),
    )


def of_picture(claim: Claim, n: int) -> Claim:
    """The claim with the params of the request for picture n, where a step has one request for each of something."""
    return dataclasses.replace(claim, params=claim.each[n]) if claim.each else claim


def shown_progress(claim: Claim, percent: int) -> int:
    """The progress of the task, from that of the step."""
    return progress_of(claim.fixed, claim.step, percent) if claim.fixed else percent


def shown_stage(claim: Claim, stage: str) -> str:
    """The stage, which names the step."""
    return f"{claim.fixed[claim.step]['name']}: {stage}" if claim.fixed else stage


def _lacking(step: Mapping[str, Any], made: Mapping[str, Mapping[str, Any]]) -> int:
    """How many of the pictures that `for_each` goes over were not made: they are missing in this step too."""
    source = _ALL_PICTURES.fullmatch(step["for_each"] or "")
    return int(made[source[1]]["missing"]) if source else 0


def _filled(settings: Settings, claim: Claim) -> Mapping[str, Any]:
    """The order with its count, and the defaults of `parameters`, as a task without steps has them."""
    params = {**claim.params, "count": claim.count}
    task_type = settings.tasks.get(claim.type)
    if task_type is None:
        return params
    filled = task_type.filled(claim.params.get("parameters") or {})
    return {**params, "parameters": filled} if filled else params
