"""The settings of a provider of kind `gradio`, read once.

`options`: `endpoint`, the app's api_name; `input`: its inputs, a template, by the names of the app's "Use via API"
page, or as a list.  `${input.0.file}` is a photo in the app's form.  An app behind a proxy, or on Hugging Face, that
wants a key is given `secrets.KEY` as a bearer token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.providers.common.answers import Rules
from actors.providers.common.paths import Path
from actors.providers.common.reading import (
    checked,
    read_paths,
    read_rules,
    read_secrets,
    refuse_unknown,
    setting_name,
)
from actors.providers.common.template import Template, check, parse
from config.settings import Provider, Settings
from supervisor.core.errors import SettingFault

FORMS = ("file", "data_uri", "bytes")
_OPTIONS = ("endpoint", "input")
_USUAL = {
    "code": ["$.error", "$.detail"],
    "message": ["$.error", "$.detail"],
    "at_capacity": ["*ueue is full*"],
    "rate_limited": ["*exceeded your*quota*"],
    "retry": ["*out of memory*"],
    "content_rejected": ["*NSFW*", "*nsfw*", "*safety checker*"],
}


@dataclass(frozen=True)
class GradioService:
    """base: the app's address.  wanted: the paths of its pictures in `output`, empty = every file."""

    name: str
    base: str
    endpoint: str
    input: Template
    wanted: tuple[Path, ...]
    rules: Rules
    answer_bytes: int
    file_bytes: int
    allow_private_addresses: bool
    may_bill_twice: bool
    key: str = field(default="", repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_service(name: str, provider: Provider, settings: Settings) -> GradioService:
    """Raises SettingFault with the setting's name."""
    here = setting_name(name)
    options = provider.options
    refuse_unknown(f"{here}__OPTIONS", options, _OPTIONS)
    if not provider.url:
        raise SettingFault(
            f"{here}__URL is not set, but must be the Gradio app's address, such as http://127.0.0.1:7860."
        )
    endpoint = str(options.get("endpoint", "")).strip("/")
    if not endpoint:
        raise SettingFault(
            f"{here}__OPTIONS__ENDPOINT is not set, but must be the api_name of an endpoint; `darkroom provider new "
            f"{provider.url}` lists them."
        )
    given, there = options.get("input", {}), f"{here}__OPTIONS__INPUT"
    if not isinstance(given, dict | list):
        raise SettingFault(f"{there} may be a table of the endpoint's parameters, or a list.")
    secrets = read_secrets(provider)
    template = checked(there, lambda: parse(given))
    checked(there, lambda: check(template.placeholders, secrets=secrets, input_forms=FORMS))
    return GradioService(
        name=name,
        base=provider.url.rstrip("/"),
        endpoint=endpoint,
        input=template,
        wanted=read_paths(f"{here}__RESULT", provider.result),
        rules=read_rules(name, provider, settings, usual=_USUAL),
        answer_bytes=provider.limits.answer_bytes,
        file_bytes=provider.limits.file_bytes,
        allow_private_addresses=provider.allow_private_addresses,
        may_bill_twice=provider.may_bill_twice,
        key=secrets.get("KEY", ""),
        secrets=secrets,
    )
