"""The settings of a provider of kind `openai`, read once.

`options`: `edit_style`, how pictures are sent: `multipart` to /images/edits (OpenAI), `json_image` to
/images/generations (Ark and others), or `none`: text alone.  `prompt`: a template.  `parameters`: of every request; a
task's own `parameters` may add those of TASK_PARAMETERS.  `partial_images`: the number of drafts of a single picture's
stream, which give its progress; 0 = no stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.providers.common.reading import (
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

BASE = "https://api.openai.com/v1"
EDIT_STYLES = ("multipart", "json_image", "none")
MOST_PARTIAL_IMAGES = 3
TASK_PARAMETERS = ("size", "quality", "background", "output_format", "output_compression", "input_fidelity")
_OPTIONS = ("edit_style", "prompt", "parameters", "partial_images")
_USUAL = {
    "result": ["$.data[*].b64_json", "$.data[*].url"],
    "code": ["$.error.code", "$.error.type"],
    "picture_code": ["$.data[*].error.code"],
    "message": ["$.error.message", "$.data[*].error.message"],
    "content_rejected": [
        "content_policy_violation",
        "moderation_blocked",
        "*SensitiveContent*",
        "*RiskDetect*",
    ],
    "halt": [
        "insufficient_quota",
        "invalid_api_key",
        "billing_*",
        "account_deactivated",
        "model_not_found",
        "AccountOverdue*",
    ],
    "rate_limited": ["rate_limit_exceeded"],
}


@dataclass(frozen=True)
class OpenAiService(HttpService):
    """base: the address before `/images/…`."""

    base: str
    model: str
    edit_style: str
    prompt: Template
    parameters: Mapping[str, Any]
    partial_images: int


def read_service(name: str, provider: Provider, settings: Settings) -> OpenAiService:
    """Raises SettingFault with the setting's name."""
    here = setting_name(name)
    options = provider.options
    refuse_unknown(f"{here}__OPTIONS", options, _OPTIONS)
    if not provider.model:
        raise SettingFault(f"{here}__MODEL is not set, but must be the model's name, such as gpt-image-2.")
    prompt = checked(f"{here}__OPTIONS__PROMPT", lambda: parse(options.get("prompt", "${params.prompt}")))
    checked(
        f"{here}__OPTIONS__PROMPT",
        lambda: check(
            prompt.placeholders, secrets=(), input_forms=(), without=("id", "callback_url", "traceparent")
        ),
    )
    return OpenAiService(
        **read_common(name, provider, settings, usual=_USUAL),
        base=(provider.url or BASE).rstrip("/"),
        model=provider.model,
        edit_style=read_choice(
            f"{here}__OPTIONS__EDIT_STYLE", options.get("edit_style", "multipart"), EDIT_STYLES
        ),
        prompt=prompt,
        parameters=read_table(f"{here}__OPTIONS__PARAMETERS", options.get("parameters", {})),
        partial_images=read_count(
            f"{here}__OPTIONS__PARTIAL_IMAGES", options.get("partial_images", 2), most=MOST_PARTIAL_IMAGES
        ),
    )
