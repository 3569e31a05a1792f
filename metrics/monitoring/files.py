"""The files that are made from the description, and their content."""

from __future__ import annotations

import json
from pathlib import Path

from metrics.monitoring.grafana import dashboard
from metrics.monitoring.prometheus import RULE_FILE, rule_tests, rules

FOLDER = Path(__file__).parent.parent


def contents() -> dict[Path, str]:
    """{file: its text}."""
    return {
        FOLDER / RULE_FILE: rules(),
        FOLDER / "alerts_test.yml": rule_tests(),
        FOLDER / "grafana" / "darkroom.json": json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n",
    }
