"""The settings of a provider of kind `replicate`, read once.

`options`: `dialect`, `replicate` (default) or `cog`; `input`: the model's input, a template; `cancel_after`: a deadline
that Replicate keeps, such as `5m`; `pictures_per_request`: of one prediction, 0 = as many as ordered.  `model` is
`owner/name`, `owner/name:version`, a bare version, or `deployments/owner/name`; a cog server has one.  `mode`: with
`callback` the service reports by itself and is polled seldom; without it, Replicate is polled (which gives live
progress), and cog answers on an open connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from actors.providers.common.answers import OUT_OF_MEMORY
from actors.providers.common.reading import (
    can_be_called,
    checked,
    read_choice,
    read_count,
    read_table,
    refuse_unknown,
    setting_name,
)
from actors.providers.common.service import HttpService, read_common
from actors.providers.common.template import Template, check, parse
from config.provider import Provider
from config.settings import Settings
from supervisor.core.errors import SettingFault

BASE = "https://api.replicate.com/v1"
DIALECTS = ("replicate", "cog")
_OPTIONS = ("dialect", "input", "cancel_after", "pictures_per_request")
_MODEL = re.compile(r"(deployments/)?[\w.-]+/[\w.-]+|([\w.-]+/[\w.-]+:)?[0-9a-f]{32,64}")
_USUAL = {
    "result": [
        "$.output",
        "$.output[*]",
        "$.output.images[*]",
        "$.output.image",
        "$.output[*].url",
        "$.output.url",
        "$.output.*",
    ],
    "code": ["$.error"],
    "message": ["$.detail", "$.error"],
    "content_rejected": ["*NSFW*", "*nsfw*", "*flagged as sensitive*", "*safety*"],
    "at_capacity": ["At capacity*"],
    "retry": [*OUT_OF_MEMORY, "*imed out*", "*Prediction interrupted*"],
}


@dataclass(frozen=True)
class ReplicateService(HttpService):
    """base: the address before `/predictions`.  pictures_per_request: 0 = as many as ordered."""

    dialect: str
    mode: str
    base: str
    model: str
    input: Template
    cancel_after: str
    pictures_per_request: int

    @property
    def webhook_key(self) -> str:
        """Signs its reports; empty if there is none."""
        return self.secrets.get("WEBHOOK", "")


def read_service(name: str, provider: Provider, settings: Settings) -> ReplicateService:
    """Raises SettingFault with the setting's name."""
    here = setting_name(name)
    options = provider.options
    refuse_unknown(f"{here}__OPTIONS", options, _OPTIONS)
    dialect = read_choice(f"{here}__OPTIONS__DIALECT", options.get("dialect", "replicate"), DIALECTS)
    _check_address(here, dialect, provider, settings)
    there = f"{here}__OPTIONS__INPUT"
    common = read_common(name, provider, settings, usual=_USUAL)
    template = checked(there, lambda: parse(read_table(there, options.get("input", {}))))
    checked(there, lambda: check(template.placeholders, secrets=common["secrets"]))
    if any(each.input and each.input[1] == "url" for each in template.placeholders) and not settings.url:
        raise SettingFault(
            f"{there} sends links to pictures, but DARKROOM_URL, the address under which the service can fetch them "
            "from here, is not set; set it, or send ${input.0.data_uri} instead."
        )
    return ReplicateService(
        **common,
        dialect=dialect,
        mode=provider.mode,
        base=(provider.url or BASE).rstrip("/"),
        model=provider.model,
        input=template,
        cancel_after=str(options.get("cancel_after", "")),
        pictures_per_request=read_count(
            f"{here}__OPTIONS__PICTURES_PER_REQUEST",
            options.get("pictures_per_request", _usual_pictures(dialect, template)),
        ),
    )


def _usual_pictures(dialect: str, input_: Template) -> int:
    """A self-hosted server without a picture count makes one picture; for a service that bills the number is
    unknown."""
    return (
        1
        if dialect == "cog" and not {each.name for each in input_.placeholders} & {"count", "params.count"}
        else 0
    )


def _check_address(here: str, dialect: str, provider: Provider, settings: Settings) -> None:
    if dialect == "replicate" and not _MODEL.fullmatch(provider.model):
        raise SettingFault(
            f"{here}__MODEL is {provider.model!r}, but may be owner/name, owner/name:version, a version, or "
            "deployments/owner/name."
        )
    if dialect == "cog" and not provider.url:
        raise SettingFault(f"{here}__URL is not set, but must be the cog server's address.")
    if dialect == "cog" and provider.mode == "poll":
        raise SettingFault(
            f"{here}__MODE is 'poll', but a cog server can't be asked; it may be sync or callback."
        )
    if provider.mode == "callback" and not can_be_called(provider, settings):
        raise SettingFault(
            f"{here}__MODE is 'callback', but DARKROOM_URL, the address under which the service can call us, is "
            "not set; set it, or leave the mode away."
        )
