"""The class of an error, if the service itself says whether to retry.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

from actors.providers.base import (
    Ambiguous,
    ContentRejected,
    InvalidInput,
    Postponed,
    ProviderDown,
    ProviderError,
    Transient,
)


def as_told(error: ProviderError, headers: Mapping[str, str]) -> ProviderError:
    """The error's class by `x-should-retry`, which the official clients obey before the status."""
    told = headers.get("x-should-retry", "").lower()
    if told == "true" and isinstance(error, InvalidInput | Ambiguous):
        return Transient(error.message)
    if told == "false" and isinstance(error, Transient | Ambiguous):
        return ProviderError(error.message)
    if told == "false" and isinstance(error, Postponed) and not isinstance(error, ProviderDown):
        return ProviderDown(error.message, wait_seconds=error.wait_seconds)
    if told == "true" and type(error) is ProviderError and not isinstance(error, ContentRejected):
        return Transient(error.message)
    return error
