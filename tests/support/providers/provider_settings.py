"""Settings of AI services that several tests share."""

from __future__ import annotations

from typing import Any

from tests.support.fakes.openai_service import OpenAi
from tests.support.fakes.replicate_service import Replicate


def openai_settings(service: OpenAi, **options: Any) -> dict[str, Any]:
    return {
        "kind": "openai",
        "url": f"{service.url}/v1",
        "model": "gpt-image-2",
        "options": options,
        "secrets": {"KEY": "sk-1"},
    }


def replicate_settings(service: Replicate, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "replicate",
        "url": f"{service.url}/v1",
        "model": "us/them",
        "options": {"input": {"prompt": "${params.prompt}"}},
        "secrets": {"KEY": "r8-1"},
        **changes,
    }
