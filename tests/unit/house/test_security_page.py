"""docs/security.md: the names in it exist, it judges every requirement of the standard once, and its sums are right."""

from __future__ import annotations

import re
from collections import Counter

from tests.support.repository import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()

# How many requirements of level 1 and 2 each section of ASVS 5.0.0 has; they are numbered from 1 without a gap.
SECTIONS = {
    "1.1": 2, "1.2": 9, "1.3": 11, "1.4": 3, "1.5": 2, "2.1": 3, "2.2": 3, "2.3": 4, "2.4": 1, "3.2": 2, "3.3": 4,
    "3.4": 6, "3.5": 5, "3.7": 2, "4.1": 3, "4.2": 1, "4.3": 2, "4.4": 4, "5.1": 1, "5.2": 3, "5.3": 2, "5.4": 3,
    "6.1": 3, "6.2": 12, "6.3": 4, "6.4": 4, "6.5": 5, "6.6": 3, "6.8": 4, "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5,
    "7.5": 2, "7.6": 2, "8.1": 2, "8.2": 3, "8.3": 1, "8.4": 1, "9.1": 3, "9.2": 4, "10.1": 29, "11.1": 2, "11.2": 3,
    "11.3": 3, "11.4": 4, "11.5": 1, "11.6": 1, "12.1": 3, "12.2": 2, "12.3": 4, "13.1": 1, "13.2": 5, "13.3": 2,
    "13.4": 5, "14.1": 2, "14.2": 4, "14.3": 3, "15.1": 3, "15.2": 3, "15.3": 7, "16.1": 1, "16.2": 5, "16.3": 4,
    "16.4": 3, "16.5": 3, "17.1": 7,
}  # fmt: skip
FOLDERS = ("tests", "web", "supervisor", "actors", "config", "deploy")
VERDICTS = {"met", "not met", "n/a"}


def judged() -> list[tuple[str, list[int], str, str]]:
    """(section, numbers, verdict, reason) of each row of the table."""
    found, section = [], ""
    for line in PAGE.partition("## OWASP ASVS")[2].splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 4 or not re.match(r"all|\d", cells[1]):
            continue
        named = re.search(r"\d+\.\d+", cells[0])
        section = named[0] if named else section
        found.append((section, _numbers(cells[1]), cells[2], cells[3]))
    return found


def _numbers(text: str) -> list[int]:
    if text.startswith("all "):
        return list(range(1, int(text.removeprefix("all ")) + 1))
    found: list[int] = []
    for part in text.split(", "):
        first, _, last = part.partition("–")
        found += range(int(first), int(last or first) + 1)
    return found


def test_every_requirement_is_judged_once() -> None:
    seen: dict[str, list[int]] = {section: [] for section in SECTIONS}
    for section, numbers, verdict, _ in judged():
        seen[section] += numbers
        assert verdict in VERDICTS, (section, verdict)
    assert {section: sorted(numbers) for section, numbers in seen.items()} == {
        section: list(range(1, most + 1)) for section, most in SECTIONS.items()
    }


def test_the_sums_are_those_of_the_table() -> None:
    sums: Counter[str] = Counter()
    for _, numbers, verdict, _ in judged():
        sums[verdict] += len(numbers)
    words = " ".join(PAGE.split())
    assert (
        f"Of {sum(SECTIONS.values())} requirements {sums['met']} are met, {sums['not met']} are not, {sums['n/a']} are "
        "about what Darkroom does not have."
    ) in words, sums


def test_whatever_is_met_names_what_shows_it_and_all_of_that_exists() -> None:
    for section, numbers, verdict, reason in judged():
        if verdict == "met":
            assert re.search(r"`[^`]+`|\]\(|above", reason), (section, numbers)
        assert reason, (section, numbers)
    for name in re.findall(r"`([\w./-]+)`", PAGE):
        if name.startswith(tuple(f"{folder}/" for folder in FOLDERS)):
            assert (ROOT / name).exists(), name
    for name in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", PAGE):
        assert (ROOT / "docs" / name).exists(), name


def test_pages_set_no_html_run_no_text_and_keep_nothing_but_token_and_language() -> None:
    scripts = {path.name: path.read_text() for path in (ROOT / "web" / "static").glob("*.js")}
    assert scripts
    for name, script in scripts.items():
        found = re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc", script
        )
        assert found is None, (name, found)
    kept = {
        match
        for script in scripts.values()
        for match in re.findall(r"(localStorage|sessionStorage)\.setItem\((\w+)", script)
    }
    assert kept == {("sessionStorage", "TOKEN_KEY"), ("localStorage", "KEY")}


def test_no_python_of_ours_runs_text() -> None:
    for folder in ("web", "supervisor", "actors", "config", "metrics"):
        for path in (ROOT / folder).rglob("*.py"):
            found = re.search(r"(?<![\w.])(eval|exec)\(|\bpickle\b|shell=True|os\.system\(", path.read_text())
            assert found is None, (path, found)


def test_nginx_speaks_no_old_tls() -> None:
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in (ROOT / "deploy" / "nginx" / "darkroom.conf").read_text()
