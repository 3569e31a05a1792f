"""The base of all tables of settings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
_OFFER_NAME = re.compile("[a-z][a-z0-9_]{0,31}")
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]  # 0 = no limit


class Group(BaseModel):
    """A table of settings: frozen, and without unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def mistake_in_names(names: Iterable[str]) -> str:
    """The mistake in the names of needs, or of offers; empty for none."""
    wrong = next((name for name in names if not _OFFER_NAME.fullmatch(name)), None)
    if wrong is None:
        return ""
    return f"names {wrong!r}, but a name may be a small letter and up to 31 more small letters, digits and _."
