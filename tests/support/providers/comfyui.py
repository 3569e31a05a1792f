"""Settings and answers of a ComfyUI for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from actors.providers.base import (
    Accepted,
)
from tests.support.fakes.comfyui_service import ComfyUi
from tests.support.providers.adapters import Adapters

WORKFLOW = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "${input.0.file}"}},
    "2": {"class_type": "KSampler", "inputs": {"seed": "${seed}", "steps": 20, "image": ["1", 0]}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "a portrait, ${params.prompt}"}},
    "8": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "${task_id}"}},
}


def settings_of(comfy: ComfyUi, folder: Path, workflow: Any = None, **options: Any) -> dict[str, Any]:
    file = folder / "workflow.json"
    file.write_text(json.dumps(workflow or WORKFLOW), encoding="utf-8")
    return {"kind": "comfyui", "url": comfy.url, "options": {"workflow": str(file), **options}}


async def accepted(adapters: Adapters, provider: Any) -> Accepted:
    said = await adapters.submit(provider)
    assert isinstance(said, Accepted), said
    return said
