"""The objects of the examples that `darkroom kubernetes` brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from supervisor.cli.kubernetes import rendered

SOURCES = Path(__file__).parents[3] / "supervisor" / "kubernetes" / "examples"


def objects(example: str) -> list[dict[str, Any]]:
    texts = rendered(SOURCES / example / "values.toml")
    return [each for text in texts.values() for each in yaml.safe_load_all(text)]


def of_kind(example: str, kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in objects(example) if each["kind"] == kind}


def pods(example: str) -> dict[str, dict[str, Any]]:
    return {
        name: each["spec"]["template"]
        for kind in ("Deployment", "Job")
        for name, each in of_kind(example, kind).items()
    }
