"""The settings of a provider of kind `gradio`, read once.

`options`: `endpoint`, the app's api_name; `input`: its inputs, a template, by the names of the app's "Use via API"
page, or as a list.  `${input.0.file}` is a photo in the app's form.  An app behind a proxy, or on Hugging Face, that
wants a key is given `secrets.KEY` as a bearer token.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.providers.common.answers import OUT_OF_MEMORY
from actors.providers.common.paths import Path
from actors.providers.common.reading import (
    checked,
    read_paths,
    refuse_unknown,
    setting_name,
)
from actors.providers.common.service import HttpService, read_common
from actors.providers.common.template import Template, check, parse
from config.provider import Provider
from config.settings import Settings
from supervisor.core.errors import SettingFault

FORMS = ("file", "data_uri", "bytes")
_OPTIONS = ("endpoint", "input")
_USUAL = {
    "code": ["$.error", "$.detail"],
    "message": ["$.error", "$.detail"],
    "at_capacity": ["*ueue is full*"],
    "rate_limited": ["*exceeded your*quota*"],
    "retry": list(OUT_OF_MEMORY),
    "content_rejected": ["*NSFW*", "*nsfw*", "*safety checker*"],
}


@dataclass(frozen=True)
class GradioService(HttpService):
    """base: the app's address.  wanted: the paths of its pictures in `output`, empty = every file."""

    base: str
    endpoint: str
    input: Template
    wanted: tuple[Path, ...]


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
    common = read_common(name, provider, settings, usual=_USUAL)
    template = checked(there, lambda: parse(given))
    checked(there, lambda: check(template.placeholders, secrets=common["secrets"], input_forms=FORMS))
    return GradioService(
        **common,
        base=provider.url.rstrip("/"),
        endpoint=endpoint,
        input=template,
        wanted=read_paths(f"{here}__RESULT", provider.result),
    )
