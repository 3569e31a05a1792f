"""The steps of a type: several calls of AI services, one after the other, as one task with one price.

    [[tasks.portrait.steps]]
    name = "cut_out"
    provider = "studio"
    parameters = { operation = "cut_out" }

A type declares them, this module refuses what can't work, and `frozen` gives the form that a task keeps from its
admission to its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, field_validator

from config.settings_group import Group, Seconds, mistake_in_names
from config.step_expressions import (
    OF_AN_ORDER,
    BadExpression,
    Expression,
    expressions_in,
    texts_in,
    whole,
)

MOST_STEPS = 32
MOST_STEP_INPUTS = 64
EACH = ("each",)
LEAST_SECONDS = 0.001  # a shorter run time says nothing
_OUTPUTS = {"images": "images", "files": "files", "data": "json"}
LIMITS = ("ai_timeout_seconds", "time_limit_seconds", "remote_limit_seconds", "max_attempts")

Weight = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
Attempts = Annotated[int, Field(ge=1, le=100)]
Text = Annotated[str, Field(min_length=1, max_length=20_000)]


class Step(Group):
    """One step.

    inputs: by default what the step before made, and for the first step the order's inputs.  parameters, prompt: by
    default the order's.  for_each: one request for each of these, as `${each}`.  weight: of the task's progress; by
    default learnt from run times.  keep: keep its files as long as the work.  kept_credits: what a refund leaves out
    once this step is done.  The limits are by default those of the type.
    """

    name: Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,31}$")]
    provider: str
    fallback: list[str] = Field(default_factory=list)
    inputs: Annotated[list[Text], Field(min_length=1, max_length=MOST_STEP_INPUTS)] | None = None
    parameters: dict[str, Any] | None = None
    prompt: Annotated[str, Field(max_length=20_000)] | None = None
    needs: dict[str, Annotated[int, Field(ge=1, le=1_000_000_000)]] = Field(default_factory=dict)
    weight: Weight | None = None
    for_each: Text | None = None
    keep: bool = False
    kept_credits: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    ai_timeout_seconds: Seconds | None = None
    time_limit_seconds: Seconds | None = None
    remote_limit_seconds: Seconds | None = None
    max_attempts: Attempts | None = None

    @field_validator("needs")
    @classmethod
    def _be_named(cls, needs: dict[str, int]) -> dict[str, int]:
        if mistake := mistake_in_names(needs):
            raise ValueError(f"STEPS has a step whose NEEDS {mistake}")
        return needs

    @property
    def chain(self) -> tuple[str, ...]:
        """Names of its providers, the preferred one first."""
        return tuple(dict.fromkeys((self.provider, *self.fallback)))

    @property
    def expressions(self) -> list[Expression]:
        """Every expression of the step.  Raises BadExpression."""
        texts = [*(self.inputs or ()), self.prompt or "", self.for_each or "", *texts_in(self.parameters)]
        return [each for text in texts for each in expressions_in(text)]

    @property
    def goes_over(self) -> Expression | None:
        """What `for_each` names."""
        return None if self.for_each is None else whole(self.for_each)


def refuse_impossible_steps(
    steps: Sequence[Step],
    inputs: Mapping[str, tuple[int, int]],
    known_parameters: frozenset[str] | None,
) -> None:
    """Raises ValueError with a sentence that begins with STEPS.

    inputs: {kind: (fewest, most)} of the type's orders.  known_parameters: the only members that `parameters` of an
    order may have; None where it may have any.
    """
    if len(steps) > MOST_STEPS:
        raise ValueError(f"STEPS has {len(steps)} steps, but may have up to {MOST_STEPS}.")
    before: list[str] = []
    names = [step.name for step in steps]
    for step in steps:
        if step.name in before:
            raise ValueError(f"STEPS names {step.name!r} twice, but each step may have a name of its own.")
        try:
            _check_step(step, before, names, inputs, known_parameters)
        except BadExpression as mistake:
            raise ValueError(f"STEPS: the step {step.name!r} {mistake}.") from None
        before.append(step.name)


def _check_step(
    step: Step,
    before: Sequence[str],
    names: Sequence[str],
    inputs: Mapping[str, tuple[int, int]],
    known_parameters: frozenset[str] | None,
) -> None:
    for each in step.expressions:
        _check_expression(each, step, before, names, inputs, known_parameters)
    if step.for_each is not None and (step.goes_over is None or _is_one(step.goes_over)):
        raise BadExpression(
            f"has FOR_EACH = {step.for_each!r}, but FOR_EACH may be one expression for several values, such as "
            "${steps.NAME.images} or ${params.images}"
        )
    for text in step.inputs or ():
        found = whole(text)
        if found is None or not (found.is_of_files or found.names == EACH):
            raise BadExpression(
                f"has {text!r} in INPUTS, but an input may be one expression for files, such as "
                "${steps.NAME.images.0} or ${params.images}"
            )
        if found.is_each and not _goes_over_files(step):
            raise BadExpression("has ${each} in INPUTS, but its FOR_EACH goes over values that are no files")
    for place, text in (
        ("PROMPT", step.prompt or ""),
        *(("PARAMETERS", text) for text in texts_in(step.parameters)),
    ):
        for found in expressions_in(text):
            if found.is_of_files or (found.is_each and _goes_over_files(step)):
                raise BadExpression(f"has {found} in its {place}, but files may only be in INPUTS")


def _check_expression(
    found: Expression,
    step: Step,
    before: Sequence[str],
    names: Sequence[str],
    inputs: Mapping[str, tuple[int, int]],
    known_parameters: frozenset[str] | None,
) -> None:
    if found.is_each and (step.for_each is None or step.for_each == str(found)):
        raise BadExpression("has ${each}, but only a step with FOR_EACH may")
    if found.step is not None and found.step not in before:
        earlier = f"the steps before it: {', '.join(before)}" if before else "no step, since it is the first"
        what = "comes later" if found.step in names else "does not exist"
        what = "is the step itself" if found.step == step.name else what
        raise BadExpression(f"has {found}, and that step {what}; it may refer to {earlier}")
    if found.inputs is not None:
        most = inputs[found.inputs][1]
        if most <= (found.place or 0):
            raise BadExpression(
                f"has {found}, but an order of this type has {f'at most {most}' if most else 'no'} {found.inputs}: "
                "see INPUTS of the type"
            )
    if (
        found.parameter is not None
        and known_parameters is not None
        and found.parameter not in known_parameters
    ):
        may = ", ".join(sorted(known_parameters))
        raise BadExpression(f"has {found}, but an order of this type may have only these parameters: {may}")


def _is_one(found: Expression) -> bool:
    """Whether an expression can only be one value."""
    return found.place is not None or found.is_each or found.names[1] in OF_AN_ORDER


def _goes_over_files(step: Step) -> bool:
    return step.goes_over is not None and step.goes_over.is_a_list_of_files


def frozen(
    steps: Sequence[Step], of_the_type: Mapping[str, Any], learnt: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The steps as a task keeps them: JSON, with every key.

    of_the_type: `outputs`, and the limits for steps that give none.  learnt: {step: its mean run time in seconds}.
    Beside the declared keys: `chain`, the providers' names; `count`, whether the step makes as many pictures as were
    ordered, or one; `outputs`, what it may return.
    """
    weights = weights_of(steps, learnt)
    return [
        {
            "name": step.name,
            "chain": list(step.chain),
            "inputs": ["${each}"] if step.inputs is None and _goes_over_files(step) else step.inputs,
            "parameters": step.parameters,
            "prompt": step.prompt,
            "needs": dict(step.needs),
            "weight": weights[step.name],
            "for_each": step.for_each,
            "keep": step.keep,
            "kept_credits": step.kept_credits,
            "count": step is steps[-1] or _is_used_as_many(step, steps[place + 1 :]),
            "outputs": of_the_type["outputs"] if step is steps[-1] else _outputs(step, steps[place + 1 :]),
            **_limits(step, of_the_type),
        }
        for place, step in enumerate(steps)
    ]


def weights_of(steps: Sequence[Step], learnt: Mapping[str, float]) -> dict[str, float]:
    """{step: its share of the work, in any unit}: what it declares, else what its run time says, else 1.

    Run times count in the unit of the declared weights; where no step has both, only if no step declares a weight.
    """
    declared = {step.name: step.weight for step in steps if step.weight is not None}
    timed = {step.name: learnt[step.name] for step in steps if learnt.get(step.name, 0) >= LEAST_SECONDS}
    both = declared.keys() & timed.keys()
    if declared:
        scale = sum(declared[name] for name in both) / sum(timed[name] for name in both) if both else None
    else:
        scale = 1.0 if timed.keys() == {step.name for step in steps} else None
    # A step that takes no time still takes a moment of the progress.
    guessed = {} if scale is None else {name: max(0.01, seconds * scale) for name, seconds in timed.items()}
    return {step.name: declared.get(step.name) or guessed.get(step.name, 1.0) for step in steps}


def _limits(step: Step, of_the_type: Mapping[str, Any]) -> dict[str, Any]:
    """The step's limits.  If it lowers only its time limit, its AI time-out becomes at most half of that."""
    limits = {
        name: of_the_type[name] if getattr(step, name) is None else getattr(step, name) for name in LIMITS
    }
    if step.time_limit_seconds is not None and step.ai_timeout_seconds is None:
        limits["ai_timeout_seconds"] = min(of_the_type["ai_timeout_seconds"], step.time_limit_seconds / 2)
    return limits


def _is_used_as_many(step: Step, later: Sequence[Step]) -> bool:
    """Whether a later step uses more than the first picture."""
    return any(
        each.step == step.name and each.made == "images" and each.place != 0
        for one in later
        for each in one.expressions
    )


def _outputs(step: Step, later: Sequence[Step]) -> list[str]:
    """What later steps use of a step that is not the last: images, files and data."""
    used = {each.made for one in later for each in one.expressions if each.step == step.name}
    if later[0].inputs is None and not _goes_over_files(later[0]):
        used.add("images")
    used = used or {"images"}
    return [output for name, output in _OUTPUTS.items() if name in used]
