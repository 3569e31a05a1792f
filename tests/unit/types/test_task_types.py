"""Task types are data: declared in settings, checked at the start, read by one reader."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from config.declarations import declared_types
from config.load_settings import SettingsError, load_settings
from config.settings import Settings
from supervisor.core.task_params import BadTask, check_params, check_submission

ROOT = Path(__file__).parents[2].parent
SECRET = "of the tests, and of nothing else 0123"
POSTER: dict[str, Any] = {
    "title": {"en": "Poster", "zh": "海报"},
    "inputs": {"images": [0, 4]},
    "count": [1, 3],
    "scenes": ["day", "night"],
    "parameters": {
        "properties": {"quality": {"enum": ["sd", "hd"], "default": "sd"}, "steps": {"type": "integer"}},
        "additionalProperties": False,
    },
}
SETTINGS = Settings(secret=SECRET, tasks={"poster": POSTER})


def _written(folder: Path, toml: str, **files: Any) -> dict[str, str]:
    """The environment of settings in a file, with other files beside it."""
    (folder / "darkroom.toml").write_text(toml, encoding="utf-8")
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return {"DARKROOM_CONFIG": str(folder / "darkroom.toml")}


def _refusal(folder: Path, toml: str, **files: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        load_settings(_written(folder, toml, **files))
    said = str(refused.value)
    assert "\n" not in said and said.endswith("."), said
    return said


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"prompt": "a sunset"},
        {"images": [], "sceneId": "day"},
        {"images": ["a"] * 4, "count": 3, "parameters": {"quality": "hd", "steps": 3}},
    ],
)
def test_a_type_accepts_its_declared_inputs(params: dict[str, Any]) -> None:
    checked = check_params("poster", params, SETTINGS)
    assert checked.count == params.get("count", 1)
    assert checked.parameters == params.get("parameters", {}), "defaults are not stored"
    assert SETTINGS.tasks["poster"].filled(checked.parameters)["quality"] in ("sd", "hd")


@pytest.mark.parametrize(
    ("params", "pointer", "detail"),
    [
        ({"images": ["a"] * 5}, "/params/images", "There must be at most 4 items, not 5."),
        ({"count": 4}, "/params/count", "This must be less than or equal to 3."),
        ({"sceneId": "dawn"}, "/params/sceneId", "There is no scene 'dawn'; there are day, night."),
        ({"parameters": {"quality": "uhd"}}, "/params/parameters/quality", 'This may be "sd" or "hd".'),
        ({"parameters": {"colour": 1}}, "/params/parameters/colour", "There is no such member."),
        ({"parameters": {"a/b": 1}}, "/params/parameters/a~1b", "There is no such member."),
    ],
)
def test_an_unknown_key_is_reported_with_its_pointer(params: Any, pointer: str, detail: str) -> None:
    with pytest.raises(BadTask) as refused:
        check_submission({"type": "poster", "params": params}, SETTINGS, may_jump_the_queue=False)
    assert refused.value.errors == [(pointer, detail)] and refused.value.code == "bad_params"


def test_all_mistakes_are_reported_at_once() -> None:
    params = {"images": ["a"] * 5, "count": 9, "sceneId": "x", "parameters": {"steps": "1", "quality": 1}}
    with pytest.raises(BadTask) as refused:
        check_params("poster", params, SETTINGS)
    assert {pointer for pointer, _ in refused.value.errors} == {
        "/images", "/count", "/sceneId", "/parameters/steps", "/parameters/quality",
    }  # fmt: skip


def test_a_type_without_inputs_takes_none_and_says_so() -> None:
    settings = Settings(secret=SECRET, tasks={"poster": {"inputs": {}}})
    check_params("poster", {"prompt": "x"}, settings)
    with pytest.raises(BadTask, match="takes no images"):
        check_params("poster", {"images": ["a"]}, settings)


def test_a_type_of_several_pictures_makes_the_fewest_by_default() -> None:
    settings = Settings(secret=SECRET, tasks={"poster": {"count": [2, 4]}})
    assert check_params("poster", {"images": ["a"]}, settings).count == 2


def test_a_schema_lies_beside_the_settings_wherever_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    toml = '[tasks.poster]\nparameters = "poster.schema.json"\n'
    task_type = load_settings(_written(tmp_path, toml, poster__schema__json=POSTER["parameters"])).tasks[
        "poster"
    ]
    assert task_type.parameters == POSTER["parameters"]


def test_a_declaration_can_be_made_by_the_environment_alone() -> None:
    given = json.dumps({"additionalProperties": False, "properties": {"Size": {"minimum": 1}}})
    for environ in (
        {"DARKROOM_TASKS__poster__PARAMETERS": given, "DARKROOM_TASKS__poster__INPUTS__IMAGES": "[0, 4]"},
        {
            "DARKROOM_TASKS": json.dumps(
                {"poster": {"parameters": json.loads(given), "inputs": {"images": [0, 4]}}}
            )
        },
    ):
        task_type = load_settings({"DARKROOM_CONFIG": "", **environ}).tasks["poster"]
        assert task_type.parameters == json.loads(given) and task_type.inputs.images == (0, 4)


def test_a_title_in_one_language_is_english() -> None:
    assert Settings(secret=SECRET, tasks={"poster": {"title": "Poster"}}).tasks["poster"].title == {
        "en": "Poster"
    }


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("inputs = { images = [4, 0] }", "DARKROOM_TASKS__poster__INPUTS__IMAGES is [4, 0]"),
        ("inputs = { images = [0, 99] }", "inputs.images"),
        ("inputs = { pictures = [0, 1] }", "inputs.pictures"),
        ("count = [0, 4]", "count"),
        ("count = [3, 2]", "DARKROOM_TASKS__poster__COUNT is [3, 2]"),
        ("count = 3", "count"),
        ('outputs = ["smells"]', "outputs"),
        ('parameters = "none.json"', "No such file"),
        ('parameters = "bad.json"', "DARKROOM_TASKS__poster__PARAMETERS"),
        ('parameters = "list.json"', "parameters"),
        (
            'parameters = { properties = { a = { type = "strin" } } }',
            "DARKROOM_TASKS__poster__PARAMETERS is no JSON Schema 2020-12",
        ),
        ('parameters = { "$ref" = "https://example.org/a.json" }', "no address is ever asked"),
        ('parameters = { properties = { a = { pattern = "(?=a)" } } }', "look-around"),
        ("titel = 'Poster'", "titel"),
        ("inputs = { images = [-1, 4] }", "inputs.images.0"),
        ("inputs = { images = [-1, 4] }", "is '-1', but may be a whole number from 0 up to 64."),
        ("inputs = { images = [1, 2, 3] }", "but may be a list of 2 values."),
        (
            "inputs = { images = [1] }",
            "INPUTS__IMAGES__1 is not set, but must be a whole number from 0 up to 64.",
        ),
        ('outputs = ["smells"]', "is 'smells', but may be one of images, videos, audio, files, json."),
        ("outputs = []", "but may be a list that is not empty."),
        ('scenes = [""]', "but may be text of 1 to 100 characters."),
        ('slots = ["person"]', "is 'person', but may be a table."),
        ("slots = [{ nam = 'person' }]", "SLOTS__0__NAME is not set, but must be text that matches"),
        ("slots = [{ name = 'a', size = 1 }]", "holds 'size', but may hold only about, name, title."),
        ("price = 3", "is '3', but may be a table."),
        ("price = { per = 'hour' }", "is 'hour', but may be one of picture, second, task."),
        ("price = { credits = -1 }", "is '-1', but may be a number from 0 up to 1000000."),
        ("price = { by = [{ times = 'x' }] }", "price.by.0.times"),
        ("price = { by = [{ times = 'x' }] }", "is 'x', but may be a number from 0 up to 1000000."),
        ("price = { currency = 'USD' }", "may hold only base, by, credits, per, seconds."),
        (
            "price = { by = [{ where = { q = 'HD' }, times = 2 }] }\n"
            "parameters = { properties = { q = { '$ref' = '#/$defs/q' } }, '$defs' = { q = { enum = ['sd', 'hd'] } } }",
            """PRICE has q = 'HD' in a `where`, which no order can have. This may be "sd" or "hd".""",
        ),
        ('parameters = { "$schema" = 3 }', "PARAMETERS says that it is 3"),
        (
            "parameters = { properties = { a = { type = 'integer', default = 'x' } } }",
            "does not itself allow: a. This must be a whole number.",
        ),
        ("doors = { openai = 'darkroom/x' }", "DARKROOM_TASKS__poster__DOORS names 'darkroom/x'"),
    ],
)
def test_a_bad_declaration_stops_the_start_with_one_sentence(tmp_path: Path, toml: str, said: str) -> None:
    told = _refusal(tmp_path, f"[tasks.poster]\n{toml}\n", bad__json="{", list__json="[1]")
    assert said in told and not told.endswith("..") and "\n" not in told


def test_a_mistake_of_a_provider_names_it(tmp_path: Path) -> None:
    provider = '[providers.painter]\nkind = "http"\n'
    assert _refusal(tmp_path, f'{provider}cost = "$.cost"\n').startswith(
        "DARKROOM_PROVIDERS__painter__COST_UNIT is not set"
    )
    assert _refusal(tmp_path, f'{provider}preset = "no"\n').startswith(
        "DARKROOM_PROVIDERS__painter__PRESET is 'no'"
    )


def test_a_table_of_a_declared_type_replaces_the_members_it_names_and_no_other() -> None:
    plain = Settings(secret=SECRET).tasks
    for name in declared_types():
        for provider in ("studio", "painter"):
            settings = Settings(
                secret=SECRET,
                tasks={name: {"title": "Mine", "provider": provider}},
                providers={"painter": {"kind": "openai", "url": "https://example.org/v1"}},
            )
            mine = settings.tasks[name]
            assert mine.title == {"en": "Mine"}
            assert (mine.about, mine.slots) == (plain[name].about, plain[name].slots)


def test_the_core_names_no_type() -> None:
    """The studio's own code knows its works, and the dashboard's examples name some."""
    named = re.compile("|".join(declared_types()))
    for folder in ("config", "supervisor", "actors", "web"):
        for path in (ROOT / folder).rglob("*.py"):
            if "actors/providers/studio" not in path.as_posix():
                for line in path.read_text(encoding="utf-8").splitlines():
                    assert not named.search(line) or line.lstrip().startswith("darkroom "), f"{path}: {line}"
