"""What the settings of all adapters over HTTP have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from actors.providers.common.answers import Rules
from actors.providers.common.reading import read_rules, read_secrets
from config.provider import Provider
from config.settings import Settings


@dataclass(frozen=True, kw_only=True)
class HttpService:
    """One AI service over HTTP.  answer_bytes: the limit of an answer and of one picture; file_bytes: of another file.

    allow_private_addresses: whether its pictures may be in the own network.  secrets: {name: value}.
    """

    name: str
    rules: Rules
    answer_bytes: int
    file_bytes: int
    allow_private_addresses: bool
    may_bill_twice: bool
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def authorization(self) -> dict[str, str]:
        """The header for the secret `KEY`, in a new dict; empty if there is none."""
        key = self.secrets.get("KEY", "")
        return {"Authorization": f"Bearer {key}"} if key else {}


class CommonSettings(TypedDict):
    """The fields of HttpService, to be given to one of its subclasses."""

    name: str
    rules: Rules
    answer_bytes: int
    file_bytes: int
    allow_private_addresses: bool
    may_bill_twice: bool
    secrets: Mapping[str, str]


def read_common(
    name: str, provider: Provider, settings: Settings, *, usual: Mapping[str, Sequence[str]] | None = None
) -> CommonSettings:
    """usual: the default paths and patterns of its answers.  Raises SettingFault."""
    return CommonSettings(
        name=name,
        rules=read_rules(name, provider, settings, usual=usual),
        answer_bytes=provider.limits.answer_bytes,
        file_bytes=provider.limits.file_bytes,
        allow_private_addresses=provider.allow_private_addresses,
        may_bill_twice=provider.may_bill_twice,
        secrets=read_secrets(provider),
    )
