"""What can be set of one AI service."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from config.provider_presets import over_preset
from config.settings_group import Count, Group
from config.workflow_seeds import file_repeats_itself

PROVIDER_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
COST_UNIT = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,15}")

# `python`: a user's own adapter, options.class = "module:Class" (docs/ai-services.md)
Kind = Literal["studio", "http", "comfyui", "openai", "replicate", "gradio", "python"]
ALWAYS_MAY_BILL_TWICE = frozenset({"studio", "comfyui", "gradio"})


class ProviderLimits(Group):
    """Limits of a service, over all hosts together.  0 = no limit.  answer_bytes: of one answer, or one picture;
    file_bytes: of one film, sound or other file that it has made."""

    rps: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] = 0
    concurrency: Count = 0
    answer_bytes: Annotated[int, Field(ge=1, le=4_294_967_296)] = 67_108_864
    file_bytes: Annotated[int, Field(ge=1, le=1_099_511_627_776)] = 2_147_483_648


class Provider(Group):
    """An AI service, perhaps based on a preset.  The adapter of kind `http` reads its tables `submit`, `poll`, …."""

    kind: Kind
    preset: str = ""
    url: str = ""
    model: str = ""
    mode: Literal["sync", "poll", "callback"] = "sync"
    submit: dict[str, Any] = Field(default_factory=dict)
    id: str = ""
    poll: dict[str, Any] = Field(default_factory=dict)
    callback: dict[str, Any] = Field(default_factory=dict)
    result: list[str] = Field(default_factory=list)
    files: list[str] = Field(default_factory=list)  # paths of addresses of films, sound and other files
    data: str = ""  # path of JSON that is itself a result
    cost: str = ""  # where an answer has its cost: a path, or `header:NAME`
    cost_unit: str = ""  # the unit of the cost: USD, credits, …
    error: dict[str, Any] = Field(default_factory=dict)
    cancel: dict[str, Any] = Field(default_factory=dict)
    limits: ProviderLimits = ProviderLimits()
    options: dict[str, Any] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)  # of a model's processes
    secrets: dict[str, SecretStr] = Field(default_factory=dict)
    may_bill_twice: bool = False
    allow_private_addresses: bool = False

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        """Apply the preset, and the default of `may_bill_twice`: true for studio, comfyui, gradio, synchronous http
        (CORRECTNESS 15), and a cog server, which is the user's own: it loses its jobs when it ends, and it costs
        nothing."""
        if not isinstance(given, dict):
            return given
        if given.get("preset"):
            given = over_preset(str(given["preset"]), given)
        if "may_bill_twice" in given:
            return given
        kind, options = given.get("kind"), given.get("options")
        synchronous_http = kind == "http" and given.get("mode", "sync") == "sync"
        cog = kind == "replicate" and isinstance(options, dict) and options.get("dialect") == "cog"
        return {**given, "may_bill_twice": kind in ALWAYS_MAY_BILL_TWICE or synchronous_http or cog}

    @model_validator(mode="after")
    def _know_the_unit(self) -> Provider:
        if self.cost and not self.cost_unit:
            raise ValueError(
                "COST_UNIT is not set, but must say in what the service counts COST, such as USD."
            )
        if self.cost_unit and not COST_UNIT.fullmatch(self.cost_unit):
            raise ValueError(
                f"COST_UNIT is {self.cost_unit!r}, but may be a word of at most 16 letters, such as USD."
            )
        return self

    @field_validator("env")
    @classmethod
    def _be_variables(cls, env: dict[str, str]) -> dict[str, str]:
        """Checked here, since the system refuses others only when a process is started."""
        for name, value in env.items():
            if not name or "=" in name or "\0" in name + value:
                raise ValueError(
                    f"ENV sets {name!r} to {value!r}, but a variable's name may be any text without =, and neither "
                    "it nor its value may contain a NUL."
                )
        return env

    @property
    def repeats_itself(self) -> bool:
        """Whether all pictures of an order would be the same: a ComfyUI workflow without a seed."""
        options = self.options
        return self.kind == "comfyui" and file_repeats_itself(
            str(options.get("workflow", "")), randomises=is_true(options.get("randomize_seeds"))
        )


def is_true(value: Any) -> bool:
    """The value of a setting in a free table, which comes from the environment as text."""
    return str(value).strip().lower() in ("true", "1", "yes", "on")
