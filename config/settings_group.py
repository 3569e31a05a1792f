"""The base of all tables of settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]  # 0 = no limit


class Group(BaseModel):
    """A table of settings: frozen, and without unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")
