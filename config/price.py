"""The declared price of a type's orders.  `supervisor.core.price` computes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from config.settings_group import Group

MOST_CREDITS = 1_000_000_000
PARAMETERS = "parameters."

Factor = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class Times(Group):
    """A factor for orders whose parameters have all of these values.  where: {member: value}."""

    where: Annotated[dict[str, Any], Field(max_length=50)] = Field(default_factory=dict)
    times: Factor


class Price(Group):
    """credits = base + ceil(credits × units × every `times` whose `where` matches).

    per: the unit.  seconds: for `per = "second"`, the parameter with the number of seconds, `parameters.<name>`.
    """

    base: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    per: Literal["picture", "second", "task"] = "picture"
    credits: Factor = 0
    seconds: str = ""
    by: Annotated[list[Times], Field(max_length=100)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _know_the_seconds(self) -> Price:
        if self.per == "second" and not self.seconds.removeprefix(PARAMETERS):
            raise ValueError('PRICE is per second, so it must have seconds = "parameters.<name>".')
        if self.per != "second" and self.seconds:
            raise ValueError('PRICE has seconds, but only one with per = "second" may.')
        if self.seconds and not self.seconds.startswith(PARAMETERS):
            raise ValueError(f'PRICE has seconds = "{self.seconds}", but may have "parameters.<name>".')
        return self

    @property
    def name_of_seconds(self) -> str:
        """The member of `parameters` with the number of seconds; empty if the price does not use it."""
        return self.seconds.removeprefix(PARAMETERS)

    @property
    def members(self) -> set[str]:
        """Members of `parameters` that the price uses."""
        named = {name for each in self.by for name in each.where}
        return named | ({self.name_of_seconds} if self.seconds else set())
