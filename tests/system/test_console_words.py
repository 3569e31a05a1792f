"""The console has every text in both languages, and Chinese for the server's English sentences."""

from __future__ import annotations

import re
from typing import get_args

from tests.support.repository import ROOT
from web.app.pages import STATIC
from web.openapi import schemas

WORDS = (STATIC / "words.js").read_text(encoding="utf-8")
FROM_THE_SERVER = ("stage.", "error.")
# Told to programs, or on pages that are not the console's.
NOT_TOLD_THERE = {
    "bad_link", "bad_target", "cancelled", "encoded_body", "method_not_allowed", "model_not_found",
    "more_than_expected", "not_a_form", "not_json", "not_json_type", "not_migrated", "not_releasable",
    "origin_not_allowed", "reference_reused", "still_in_progress", "too_many_logins",
    "version_not_found", "wechat_blocked", "wechat_busy", "wechat_not_set_up", "wechat_timeout",
    "wechat_unavailable",
}  # fmt: skip
A_STAGE = re.compile(
    r"""(?:progress|report|Running)\((?:[^"\n]*, |stage=)"([a-zA-Z ]+)"|stage = '([a-z ]+)'"""
)
FINAL = {"failed", "cancelled", "done"}  # said by the status


def names_of(language: str) -> set[str]:
    found = re.search(rf"^const {language} = \{{$(.*?)^\}};$", WORDS, re.DOTALL | re.MULTILINE)
    assert found is not None
    return set(re.findall(r'"([\w.]+[\w. ]*)": "', found[1]))


def test_both_languages_have_the_same_words() -> None:
    theirs = {name for name in names_of("CHINESE") if not name.startswith(FROM_THE_SERVER)}
    assert names_of("ENGLISH") == theirs and len(theirs) > 60


def test_every_word_that_the_page_asks_for_is_there() -> None:
    page = (STATIC / "console.html").read_text(encoding="utf-8")
    asked = set(re.findall(r'data-(?:say|label)="([^"]+)"', page))
    for path in STATIC.glob("*.js"):
        asked |= set(re.findall(r'\bsay\("([^"]+)"', path.read_text(encoding="utf-8")))
    assert asked <= names_of("ENGLISH") and len(asked) > 40


def test_every_stage_and_error_code_of_the_server_is_known_in_chinese() -> None:
    known = names_of("CHINESE")
    stages = set()
    for folder in ("actors", "supervisor/store"):
        for path in (ROOT / folder).rglob("*.py"):
            stages |= {one or other for one, other in A_STAGE.findall(path.read_text(encoding="utf-8"))}
    assert len(stages) > 15
    assert {f"stage.{stage}" for stage in stages - FINAL} <= known
    assert {f"error.{code}" for code in get_args(schemas.ErrorCode)} <= known


def test_every_kind_of_refusal_that_the_console_may_meet_is_known_in_chinese() -> None:
    kinds = {
        kind
        for path in (ROOT / "web").rglob("*.py")
        for kind in re.findall(r'\bkind="([a-z_]+)"', path.read_text(encoding="utf-8"))
    }
    assert len(kinds) > 40 and kinds >= NOT_TOLD_THERE
    assert {f"error.{kind}" for kind in kinds - NOT_TOLD_THERE} <= names_of("CHINESE")


def test_no_error_is_announced_as_it_came() -> None:
    """Not the feed's either, which refuses too many open pages."""
    for path in sorted(STATIC.glob("*.js")):
        assert not re.search(r"\b(?:announce|complain)\(\s*error\.message", path.read_text("utf-8")), (
            path.name
        )


def test_numbers_stand_with_a_noun_of_their_number() -> None:
    """In both pages' English no plural follows a number that may be one; what has a sentence for one has it apart."""
    for name in ("words.js", "ops-words.js"):
        english = (STATIC / name).read_text(encoding="utf-8").partition("const CHINESE")[0]
        bare = re.findall(
            r'"([\w.]+)": "[^"]*\{\w+\} (?:requests|tasks|pictures|files|credits|days|works|times)\b', english
        )
        assert [each for each in bare if not each.endswith(".many")] == [], name
