"""A task type: its inputs, outputs, price and providers.

Types are data, the built-in ones too: the core knows none of their names.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from config.parameter_schema import ParameterSchema
from config.price import Price
from config.settings_group import Count, Group, Seconds, mistake_in_names, no_flag, number_in
from config.steps import LIMITS, Step, frozen, refuse_impossible_steps

MOST_INPUTS = 64
MOST_PICTURES = 64
MOST_SCENES = 100
MOST_SCHEMA_BYTES = 262_144

Words = Annotated[dict[str, Annotated[str, Field(max_length=200)]], Field(max_length=50)]  # {language: text}
Inputs = Annotated[int, Field(ge=0, le=MOST_INPUTS)]
Pictures = Annotated[int, Field(ge=1, le=MOST_PICTURES)]
Output = Literal["images", "videos", "audio", "files", "json"]
NO_INPUTS = (0, 0)
_OF_MEMBERS = ("properties", "$defs", "definitions")


class InputKinds(Group):
    """[fewest, most] inputs of each kind; kinds that are not named are refused."""

    images: tuple[Inputs, Inputs] = NO_INPUTS
    videos: tuple[Inputs, Inputs] = NO_INPUTS
    audio: tuple[Inputs, Inputs] = NO_INPUTS
    files: tuple[Inputs, Inputs] = NO_INPUTS

    @model_validator(mode="after")
    def _rise(self) -> InputKinds:
        for kind, bounds in self.bounds.items():
            _refuse_falling(f"INPUTS__{kind.upper()}", bounds)
        return self

    @property
    def bounds(self) -> dict[str, tuple[int, int]]:
        """{kind: (fewest, most)}, every kind."""
        return {kind: getattr(self, kind) for kind in type(self).model_fields}


class Slot(Group):
    """The description of the input at a place, for forms."""

    name: Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,31}$")]
    title: Words = Field(default_factory=dict)
    about: Words = Field(default_factory=dict)

    @field_validator("title", "about", mode="before")
    @classmethod
    def _in_english(cls, given: Any) -> Any:
        return in_english(given)


_NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"
_OURS = ("prompt", "count", "images", "videos", "audio", "files", "sceneId", "provider")
OWN_NAMES = "darkroom/"  # a type is known at every door as this and its name


class Doors(Group):
    """Names of a type at doors that speak as another service does, beside `darkroom/<type>` (docs/sdks.md).

    replicate: perhaps with the version that orders name, `owner/name:version`.
    map: {member of an order there: a member of params here, or `parameters.<name>`}, beside what is mapped anyway.
    """

    openai: Annotated[str, Field(max_length=100, pattern=f"^{_NAME}(/{_NAME})*$")] | None = None
    replicate: Annotated[str, Field(max_length=100, pattern=f"^{_NAME}/{_NAME}(:{_NAME})?$")] | None = None
    fal: Annotated[str, Field(max_length=100, pattern=f"^{_NAME}(/{_NAME}){{1,3}}$")] | None = None
    map: Annotated[dict[str, str], Field(max_length=100)] = Field(default_factory=dict)

    @field_validator("openai", "replicate", "fal")
    @classmethod
    def _be_free(cls, name: str | None) -> str | None:
        if name is not None and name.startswith(OWN_NAMES):
            raise ValueError(
                f"DOORS names {name!r}, but a name may not begin with {OWN_NAMES}, which is kept for types."
            )
        return name

    @field_validator("map")
    @classmethod
    def _lead_somewhere(cls, given: dict[str, str]) -> dict[str, str]:
        for name, target in given.items():
            if target not in _OURS and not re.fullmatch(r"parameters\..+", target):
                raise ValueError(
                    f"DOORS__MAP leads {name!r} to {target!r}, but it may lead to {', '.join(_OURS)} or "
                    "parameters.<name>."
                )
        return given

    @property
    def names(self) -> dict[str, str]:
        """{door: name} of those that are given."""
        return {door: name for door in ("openai", "replicate", "fal") if (name := getattr(self, door))}


Amount = Annotated[int, Field(ge=1, le=1_000_000_000), BeforeValidator(no_flag)]


class TaskType(Group):
    """Settings for tasks of one type.  The limits are nested: an AI call < an attempt < the time after which it is
    stuck."""

    title: Words = Field(default_factory=dict)
    about: Words = Field(default_factory=dict)
    inputs: InputKinds = Field(default_factory=lambda: InputKinds(images=(1, 16)))
    slots: Annotated[list[Slot], Field(max_length=MOST_INPUTS)] = Field(default_factory=list)
    count: tuple[Pictures, Pictures] = (1, 8)  # fewest and most pictures of one order
    # What sceneId may be; empty = any text.
    scenes: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=MOST_SCENES)
    ] = Field(default_factory=list)
    parameters: dict[str, Any] = Field(default_factory=dict)  # JSON Schema 2020-12, inline or as a file
    outputs: Annotated[list[Output], Field(min_length=1)] = Field(default=["images"])
    doors: Doors = Field(default_factory=Doors)
    # Several calls of AI services, one after the other; without any, one call of `provider`.
    steps: list[Step] = Field(default_factory=list)
    resume_on_retry: bool = True  # a retry begins at the first step that has no results
    provider: str = "studio"
    # used in this order while the providers before are down
    fallback: list[str] = Field(default_factory=list)
    # A task may name one of these, and then only that one is used.
    allow_providers: list[str] = Field(default_factory=list)
    time_limit_seconds: Seconds = 600
    ai_timeout_seconds: Seconds = 300
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    cost_credits: Annotated[int, Field(ge=0, le=1_000_000)] = 1  # per picture; either this or `price`
    price: Price | None = None
    max_running: Count = 0
    # What a worker must have free of its offers as long as a task is processed there.
    needs: dict[str, Amount] = Field(default_factory=dict)
    remote_limit_seconds: Seconds = 3600  # from hand-off
    expire_seconds: Seconds = 86400  # from submit

    @model_validator(mode="before")
    @classmethod
    def _shorten_the_ai_call(cls, given: Any) -> Any:
        """If only the time limit is lowered, the AI time-out becomes half of it, like the defaults 300 and 600."""
        if isinstance(given, dict) and "time_limit_seconds" in given and "ai_timeout_seconds" not in given:
            limit = number_in(given["time_limit_seconds"])
            if limit is not None and 0 < limit <= 300:
                return {**given, "ai_timeout_seconds": limit / 2}
        return given

    @field_validator("title", "about", mode="before")
    @classmethod
    def _in_english(cls, given: Any) -> Any:
        return in_english(given)

    @field_validator("needs")
    @classmethod
    def _be_named(cls, needs: dict[str, int]) -> dict[str, int]:
        if mistake := mistake_in_names(needs):
            raise ValueError(f"NEEDS {mistake}")
        return needs

    @field_validator("parameters", mode="before")
    @classmethod
    def _read_file(cls, given: Any) -> Any:
        return _schema_in(given) if isinstance(given, str | Path) else given

    @field_validator("parameters")
    @classmethod
    def _be_a_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
        """Checked once here, so that a bad schema stops the start."""
        if schema:
            try:
                ParameterSchema(schema)
            except ValueError as error:
                raise ValueError(f"PARAMETERS {error}.") from None
        return schema

    @model_validator(mode="after")
    def _count_upwards(self) -> TaskType:
        _refuse_falling("COUNT", self.count)
        return self

    @model_validator(mode="after")
    def _have_one_price(self) -> TaskType:
        if self.price is None:
            return self
        if "cost_credits" in self.model_fields_set:
            raise ValueError("PRICE stands beside COST_CREDITS, but a type may have only one of them.")
        members = self.parameters.get("properties")
        if isinstance(members, dict) and self.parameters.get("additionalProperties") is False:
            unknown = sorted(self.price.members - members.keys())
            if unknown:
                raise ValueError(f"PRICE looks at {unknown[0]!r}, which no order can have: see PARAMETERS.")
        self._refuse_impossible(self.price)
        return self

    @model_validator(mode="after")
    def _have_possible_steps(self) -> TaskType:
        if not self.steps:
            return self
        for name in ("provider", "fallback", "allow_providers", "needs"):
            if name in self.model_fields_set:
                raise ValueError(
                    f"{name.upper()} stands beside STEPS, but a type with steps may have it only in its steps."
                )
        members = self.parameters.get("properties")
        is_closed = isinstance(members, dict) and self.parameters.get("additionalProperties") is False
        refuse_impossible_steps(
            self.steps, self.inputs.bounds, frozenset(members) if is_closed and members else None
        )
        for step in self.frozen_steps() or ():
            if step["ai_timeout_seconds"] >= step["time_limit_seconds"]:
                raise ValueError(
                    f"STEPS: the step {step['name']!r} has AI_TIMEOUT_SECONDS = {step['ai_timeout_seconds']:g}, but it "
                    f"may be anything below its TIME_LIMIT_SECONDS ({step['time_limit_seconds']:g}): an attempt must "
                    "outlive its AI call."
                )
        return self

    @property
    def learns_weights(self) -> bool:
        """Whether some step's share of the progress is not declared."""
        return any(step.weight is None for step in self.steps)

    def frozen_steps(self, learnt: Mapping[str, float] | None = None) -> list[dict[str, Any]] | None:
        """The steps as a task keeps them from its admission on (`config.steps.frozen`); None for a type without steps.
        learnt: {step: its mean run time in seconds}, for the weights that are not declared."""
        if not self.steps:
            return None
        limits = {name: getattr(self, name) for name in LIMITS}
        return frozen(self.steps, {"outputs": list(self.outputs), **limits}, learnt or {})

    @property
    def list_of_last_step(self) -> tuple[str, ...]:
        """Where in `params` the list is that the last step goes over with `for_each`; empty if there is none."""
        over = self.steps[-1].goes_over if self.steps else None
        return over.names[1:] if over is not None and over.names[0] == "params" else ()

    def _refuse_impossible(self, price: Price) -> None:
        """A mistyped value would never match, and every order would cost too little without anybody noticing."""
        try:
            members = ParameterSchema(
                {name: self.parameters[name] for name in _OF_MEMBERS if name in self.parameters}
            )
        except ValueError:  # its members refer to another part of the schema
            return
        for name, value in ((name, value) for each in price.by for name, value in each.where.items()):
            for _, sentence in members.mistakes_in({name: value})[:1]:
                raise ValueError(
                    f"PRICE has {name} = {value!r} in a `where`, which no order can have. {sentence}"
                )

    @functools.cached_property
    def price_in_use(self) -> Price:
        """`price`, or the price from `cost_credits`."""
        return self.price or Price(per="picture", credits=self.cost_credits)

    @property
    def chain(self) -> tuple[str, ...]:
        """Names of the providers for a task that names none, the preferred one first; with steps, of the first step."""
        if self.steps:
            return self.steps[0].chain
        return tuple(dict.fromkeys((self.provider, *self.fallback)))

    @property
    def all_providers(self) -> tuple[str, ...]:
        """Names of every provider that a task of this type may go to."""
        if self.steps:
            return tuple(dict.fromkeys(name for step in self.steps for name in step.chain))
        return tuple(dict.fromkeys((*self.chain, *self.allow_providers)))

    @functools.cached_property
    def schema_of_parameters(self) -> ParameterSchema | None:
        """The schema for `parameters`; None if any value is allowed."""
        return ParameterSchema(self.parameters) if self.parameters else None

    @property
    def needs_parameters(self) -> bool:
        """Whether an order without parameters is refused."""
        schema = self.schema_of_parameters
        return schema is not None and bool(schema.mistakes_in({}))

    def filled(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters with defaults for missing members: for reading, never for storing."""
        schema = self.schema_of_parameters
        return schema.filled(parameters) if schema is not None else dict(parameters)


def in_english(given: Any) -> Any:
    """A single text is the English one."""
    return {"en": given} if isinstance(given, str) else given


def _refuse_falling(name: str, bounds: tuple[int, int]) -> None:
    if bounds[0] > bounds[1]:
        raise ValueError(
            f"{name} is {list(bounds)}, but may be [fewest, most], the first no more than the second."
        )


def _schema_in(path: str | Path) -> Any:
    """The JSON of a file.  Raises ValueError."""
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_SCHEMA_BYTES + 1)
        if len(text) > MOST_SCHEMA_BYTES:
            raise ValueError(f"it is longer than {MOST_SCHEMA_BYTES:,} bytes")
        return json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error) or "it is nested too deep"
        raise ValueError(
            f"PARAMETERS is {str(path)!r}, but may be a table or the path of a file that holds JSON Schema ({reason})."
        ) from None
