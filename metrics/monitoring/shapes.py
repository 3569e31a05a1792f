"""The types of the description: alerts, recording rules, panels; and times in expressions.

In an expression `<5m>` is a duration and `<300>` a number of seconds.  `at_pace` replaces both; a test may shorten all
times, so that an alert that waits for minutes fires within seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Severity = Literal["page", "ticket"]
Series = dict[str, str]  # {series: its values in promtool's notation, one a minute}

AFTER_MINUTES = 30

SELECTORS = {"{JOB": '{job=~"$job"', "{TYPE": '{job=~"$job",type=~"$type"'}

_TIME = re.compile(r"<(\d+)([smh]?)>")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
RUNBOOK = "docs/operating.md"  # put your repository's address before it


@dataclass(frozen=True)
class Alert:
    """One alerting rule.

    hold: how long the expression must be true, as in `5m`.  summary may name labels as {{ $labels.type }}.
    healthy, faulty: series under which the alert is silent, and firing, at AFTER_MINUTES; then it is told as `told`,
    with these labels.
    """

    name: str
    expr: str
    hold: str
    severity: Severity
    summary: str
    healthy: Series
    faulty: Series
    labels: dict[str, str]
    told: str

    @property
    def anchor(self) -> str:
        """Its section in docs/operating.md."""
        return self.name.lower()

    @property
    def runbook_url(self) -> str:
        return f"{RUNBOOK}#{self.anchor}"


@dataclass(frozen=True)
class Recording:
    """A recording rule: an expression for panels that is too long, or too costly, to repeat."""

    record: str
    expr: str


@dataclass(frozen=True)
class Panel:
    """Lines over time, a third of the width.  lines: {name in Grafana's notation: expression}.  unit: its name in
    Grafana."""

    title: str
    description: str
    lines: dict[str, str]
    unit: str = "short"


@dataclass(frozen=True)
class Number:
    """A number now, an eighth of the width: red from this value on; with `red_below`, from this value down."""

    title: str
    description: str
    expr: str
    red: int
    red_below: bool = False
    unit: str = "short"

    @property
    def lines(self) -> dict[str, str]:
        """Its one line, which Grafana names."""
        return {"": self.expr}


@dataclass(frozen=True)
class Row:
    """A row of the dashboard."""

    title: str
    panels: tuple[Panel | Number, ...]


def at_pace(text: str, pace: float = 1.0) -> str:
    """The text with its times replaced.  pace: the factor by which they are shortened."""

    def written(found: re.Match[str]) -> str:
        number, unit = int(found[1]), found[2]
        if not unit:
            return f"{number / pace:g}"
        return f"{number}{unit}" if pace == 1 else f"{number * _SECONDS[unit] * 1000 / pace:.0f}ms"

    return _TIME.sub(written, text)


def selected(text: str) -> str:
    """An expression of a panel with its selectors written out."""
    for short, whole in SELECTORS.items():
        text = text.replace(short, whole)
    return text
