"""The operators' page has every text in both languages."""

from __future__ import annotations

import inspect
import re
from typing import get_args

import click

from supervisor.cli.main import commands
from supervisor.core.lifecycle import Status
from supervisor.health.diagnosis import WHY
from supervisor.health.troubles import SENTENCES
from supervisor.processes.restart_plan import Phase
from supervisor.services import sweep
from web.app.pages import STATIC
from web.openapi.schemas import TaskEvent

WORDS = (STATIC / "ops-words.js").read_text(encoding="utf-8")


def names_of(language: str) -> set[str]:
    found = re.search(rf"^const {language} = \{{$(.*?)^\}};$", WORDS, re.DOTALL | re.MULTILINE)
    assert found is not None
    return set(re.findall(r'"([\w.]+)": "', found[1]))


def test_both_languages_have_the_same_words() -> None:
    """But for those of what the server says in English."""
    chinese = {name for name in names_of("CHINESE") if not name.startswith(("trouble.", "problem."))}
    assert names_of("ENGLISH") == chinese and len(chinese) > 100


def test_every_word_that_the_page_asks_for_is_there() -> None:
    asked = set(re.findall(r'data-tell="([^"]+)"', (STATIC / "ops.html").read_text(encoding="utf-8")))
    for path in STATIC.glob("ops*.js"):
        if path.name != "ops-words.js":
            asked |= set(re.findall(r'\btell\("([^"]+)"', path.read_text(encoding="utf-8")))
    assert asked <= names_of("ENGLISH") and len(asked) > 60


def test_why_a_task_is_where_it_is_is_said_alike_by_page_and_command_line() -> None:
    found = dict(
        re.findall(r'^  "why\.([\w.]+)": "(.*)",$', WORDS.partition("const CHINESE")[0], re.MULTILINE)
    )
    assert found == WHY
    chinese = dict(
        re.findall(r'^  "why\.([\w.]+)": "(.*)",$', WORDS.partition("const CHINESE")[2], re.MULTILINE)
    )
    for code, text in chinese.items():
        assert set(re.findall(r"\{(\w+)[|}]", text)) == set(re.findall(r"\{(\w+)[|}]", WHY[code])), code
    assert set(chinese) == set(WHY)


def test_every_step_and_every_trouble_has_its_words() -> None:
    words = names_of("ENGLISH")
    for name, states in (("webhooks", "waiting sending delivered failed gone"), ("webhook", "waiting gone")):
        assert {f"{name}.{each}" for each in states.split()} <= words
    steps = {f"event.{event}" for event in get_args(TaskEvent.model_fields["event"].annotation)}
    assert steps <= names_of("ENGLISH")
    assert {f"trouble.{code}" for code in SENTENCES} == {
        name for name in names_of("CHINESE") if name.startswith("trouble.")
    }


def test_every_status_process_and_result_of_a_sweep_has_its_words() -> None:
    words = names_of("ENGLISH")
    assert {f"status.{each}" for each in Status} == {each for each in words if each.startswith("status.")}
    assert {f"process.{each}" for each in Phase} == {each for each in words if each.startswith("process.")}
    counted = set(re.findall(r'"(\w+)": (?:0|plain|pruned|aged|_forget_)', inspect.getsource(sweep)))
    assert {f"did.{each}" for each in counted} == {each for each in words if each.startswith("did.")}


def test_a_trouble_says_the_same_values_in_both_languages() -> None:
    chinese = dict(
        re.findall(r'^  "trouble\.([\w.]+)": "(.*)",$', WORDS.partition("const CHINESE")[2], re.MULTILINE)
    )
    for code, (_, english) in SENTENCES.items():
        assert set(re.findall(r"\{(\w+)[|}]", chinese[code])) <= {
            "subject",
            *re.findall(r"\{(\w+)[|}]", english),
        }, code


def test_commands_that_sentences_name_are_there() -> None:
    texts = [*WHY.values(), *(text for _, text in SENTENCES.values())]
    named = {name for text in texts for name in re.findall(r"`darkroom ([a-z]+(?: [a-z]+)?)", text)}
    assert len(named) >= 4
    for name in named:
        first, *rest = name.split()
        command = commands.commands[first]
        if rest and isinstance(command, click.Group):
            assert rest[0] in command.commands, name
