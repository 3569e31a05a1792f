"""The files of the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


MAY_IMPORT = {
    "web": {"supervisor", "metrics", "config"},
    "actors": {"supervisor", "metrics", "config"},
    "metrics": {"supervisor", "config"},
    "supervisor": {"config"},
    "config": set[str](),
}


def modules(package: str = "") -> list[Path]:
    """The Python files of one package, or of all that are shipped."""
    folders = [package] if package else list(MAY_IMPORT)
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
