"""The base of all tables of settings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

Seconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
_OFFER_NAME = re.compile("[a-z][a-z0-9_]{0,31}")


def no_flag(given: Any) -> Any:
    """The same; raises for true and false, which pydantic takes for 1 and 0."""
    if isinstance(given, bool):
        raise PydanticKnownError("int_type")
    return given


Count = Annotated[int, Field(ge=0, le=1_000_000_000), BeforeValidator(no_flag)]  # 0 = no limit


class Table(BaseModel):
    """Named values, of which no number may be given as true or false."""

    @field_validator("*", mode="before")
    @classmethod
    def _be_no_flag(cls, given: Any, field: ValidationInfo) -> Any:
        is_number = cls.model_fields[str(field.field_name)].annotation in (int, float)
        return no_flag(given) if is_number else given


class Group(Table):
    """A table of settings: frozen, and without unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def mistake_in_names(names: Iterable[str]) -> str:
    """The mistake in the names of needs, or of offers; empty for none."""
    wrong = next((name for name in names if not _OFFER_NAME.fullmatch(name)), None)
    if wrong is None:
        return ""
    return f"names {wrong!r}, but a name may be a small letter and up to 31 more small letters, digits and _."


def number_in(value: Any) -> float | None:
    """The number that a value of a setting stands for, before it is checked; None if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
