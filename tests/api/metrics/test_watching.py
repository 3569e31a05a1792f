"""Dashboard, rules and alerts come from one description, name only existing metrics, and link to a runbook."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metrics.monitoring import files
from metrics.monitoring.alerts import ALERTS
from metrics.monitoring.panels import ROWS
from metrics.monitoring.prometheus import rules, yaml
from metrics.monitoring.recordings import RECORDINGS
from metrics.monitoring.shapes import RUNBOOK, at_pace, selected
from tests.support.clients.alert_days import FAULTS, LIVING, faulty_afternoons, healthy_day
from tests.support.houses.metrics_shop import open_shop
from tests.support.repository import ROOT


def expressions() -> Iterator[str]:
    yield from (alert.expr for alert in ALERTS)
    yield from (each.expr for each in RECORDINGS)
    yield from (selected(expr) for row in ROWS for panel in row.panels for expr in panel.lines.values())


@pytest.mark.parametrize("path", files.contents(), ids=lambda path: path.name)
def test_the_files_are_what_the_description_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == files.contents()[path], "run `python -m metrics.monitoring`"


def test_expressions_name_only_existing_metrics(tmp_path: Path) -> None:
    with open_shop(tmp_path) as shop:
        types = shop.scrape().types
    parts = {
        f"{name}_{part}"
        for name, type_ in types.items()
        for part in ("bucket", "count")
        if type_ == "histogram"
    }
    known = {name for name, type_ in types.items() if type_ != "histogram"} | parts
    known |= {each.record for each in RECORDINGS}
    for expr in expressions():
        named = set(re.findall(r"[\w:]*darkroom_[\w:]+", expr))
        assert named or "up{" in expr, expr
        assert named <= known, expr


def test_every_metric_is_in_the_dashboard(tmp_path: Path) -> None:
    with open_shop(tmp_path) as shop:
        told = set(shop.scrape().types)
    board = (ROOT / "metrics/grafana/darkroom.json").read_text(encoding="utf-8")
    drawn = set(re.findall(r"darkroom_\w+", board))
    recorded = {
        name for each in RECORDINGS if each.record in board for name in re.findall(r"darkroom_\w+", each.expr)
    }
    parts = ("_bucket", "_count", "")
    missing = {name for name in told if not any(f"{name}{part}" in drawn | recorded for part in parts)}
    assert missing == set()


def test_a_panel_draws_no_line_without_data() -> None:
    """Of label sets at 0 there are many: only a total, or a number now, is drawn at 0."""
    for row in ROWS:
        for panel in row.panels:
            for legend, expr in panel.lines.items():
                has_many = len(re.findall(r"\{\{", legend)) > 1 or "{{route}}" in legend
                if has_many and "instance" not in legend:
                    assert expr.endswith(LIVING), f"{panel.title}: {expr}"


def test_every_alert_has_its_section_in_the_runbook() -> None:
    page = (ROOT / RUNBOOK).read_text(encoding="utf-8")
    sections = set(re.findall(r"^### (\w+)$", page, re.MULTILINE))
    assert {alert.name for alert in ALERTS} == {name for name in sections if name.startswith("Darkroom")}
    for alert in ALERTS:
        assert alert.runbook_url == f"{RUNBOOK}#{alert.name.lower()}"  # GitHub's anchor of the heading


def test_every_alert_has_its_fault_on_the_day_of_the_tests() -> None:
    assert {fault.alert for fault in FAULTS} == {alert.name for alert in ALERTS}


def test_the_dashboard_can_be_imported() -> None:
    """What Grafana asks of a file: ids that are unique, panels that do not overlap, variables that are declared."""
    board = json.loads((ROOT / "metrics/grafana/darkroom.json").read_text(encoding="utf-8"))
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
    declared = {variable["name"] for variable in board["templating"]["list"]}
    assert declared == {"datasource", "job", "type"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels)))
    assert used <= declared
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == [
        "Is it healthy?",
        "Queue",
        "Running",
        "AI services",
        "Feed",
        "Webhooks",
        "Money",
        "Processes",
    ]


def test_time_passes_faster_on_demand() -> None:
    text = "rate(x[<5m>]) > <300> and y < 3 > bool 2"
    assert at_pace(text) == "rate(x[5m]) > 300 and y < 3 > bool 2"
    assert at_pace(text, 60) == "rate(x[5000ms]) > 5 and y < 3 > bool 2"


def test_the_rule_file_is_yaml_of_strings_lists_and_tables() -> None:
    value: dict[str, Any] = {"a": ['x: "y"', "é"], "b": {"c": [{"d": "1", "e": ["f"]}]}}
    assert yaml(value) == ('a:\n  - "x: \\"y\\""\n  - "é"\nb:\n  c:\n    - d: "1"\n      e:\n        - "f"\n')


def test_the_command_writes_stale_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "metrics.monitoring"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")  # nothing is, says the test above


@pytest.mark.system
class TestPromtool:
    """Prometheus' own judgement."""

    def run(self, *argv: str) -> None:
        done = subprocess.run(["promtool", *argv], capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "FAILED" not in done.stdout

    def test_finds_no_fault_with_the_rules(self) -> None:
        self.run("check", "rules", "--lint=all", "--lint-fatal", str(ROOT / "metrics/alerts.yml"))

    def test_sees_each_alert_fire_by_its_example_and_be_silent_without(self) -> None:
        self.run("test", "rules", str(ROOT / "metrics/alerts_test.yml"))

    def test_sees_no_alert_on_a_day_with_deploys_and_nights_and_each_by_its_fault(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "alerts.yml").write_text(rules(), encoding="utf-8")
        for made in (healthy_day, faulty_afternoons):
            (tmp_path / "day.yml").write_text(made("alerts.yml"), encoding="utf-8")
            self.run("test", "rules", str(tmp_path / "day.yml"))

    def test_finds_no_fault_with_the_fast_variant(self, tmp_path: Path) -> None:
        (tmp_path / "fast.yml").write_text(rules(pace=60), encoding="utf-8")
        self.run("check", "rules", str(tmp_path / "fast.yml"))
