"""Steps are declared in a type: what is refused at the start, and the form that a task keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.load_settings import SettingsError, load_settings
from config.settings import Settings
from config.step_expressions import BadExpression, expressions_in, whole
from config.steps import Step, weights_of
from config.task_type import TaskType

SECRET = "of the tests, and of nothing else 0123"
PORTRAIT = """
[tasks.portrait]
inputs = { images = [1, 2] }
[[tasks.portrait.steps]]
name = "cut_out"
provider = "studio"
parameters = { operation = "cut_out" }
[[tasks.portrait.steps]]
name = "paint"
provider = "studio"
fallback = ["studio"]
inputs = ["${steps.cut_out.images.0}"]
prompt = "${params.prompt}, studio light"
weight = 5
[[tasks.portrait.steps]]
name = "enlarge"
provider = "studio"
parameters = { operation = "enlarge" }
for_each = "${steps.paint.images}"
max_attempts = 2
kept_credits = 1
keep = true
"""


def portrait(*steps: dict[str, Any], **members: Any) -> TaskType:
    """A type with these steps; provider and name are filled in."""
    named = [{"name": f"s{n}", "provider": "studio", **step} for n, step in enumerate(steps)]
    return Settings(secret=SECRET, tasks={"portrait": {"steps": named, **members}}).tasks["portrait"]


def refusal(*steps: dict[str, Any], **members: Any) -> str:
    with pytest.raises(ValueError) as refused:
        portrait(*steps, **members)
    return str(refused.value)


def loaded(folder: Path, toml: str) -> Settings:
    path = folder / "darkroom.toml"
    path.write_text(toml, encoding="utf-8")
    return load_settings({"DARKROOM_CONFIG": str(path)})


def test_a_declaration_in_toml_is_frozen_with_every_key(tmp_path: Path) -> None:
    frozen = loaded(tmp_path, PORTRAIT).tasks["portrait"].frozen_steps()
    limits = {
        "ai_timeout_seconds": 300,
        "time_limit_seconds": 600,
        "remote_limit_seconds": 3600,
        "max_attempts": 3,
    }
    plain = {
        "chain": ["studio"], "inputs": None, "parameters": None, "prompt": None, "needs": {}, "weight": 1.0,
        "for_each": None, "keep": False, "kept_credits": 0, "count": True, "outputs": ["images"], **limits,
    }  # fmt: skip
    assert frozen == [
        {**plain, "name": "cut_out", "parameters": {"operation": "cut_out"}, "count": False},
        {
            **plain,
            "name": "paint",
            "inputs": ["${steps.cut_out.images.0}"],
            "prompt": "${params.prompt}, studio light",
            "weight": 5.0,
        },
        {
            **plain,
            "name": "enlarge",
            "parameters": {"operation": "enlarge"},
            "for_each": "${steps.paint.images}",
            "inputs": ["${each}"],
            "max_attempts": 2,
            "kept_credits": 1,
            "keep": True,
        },
    ]


def test_a_type_without_steps_has_none_to_freeze() -> None:
    assert TaskType().frozen_steps() is None and TaskType().resume_on_retry


def test_a_type_may_go_to_the_providers_of_its_steps_and_to_no_other(tmp_path: Path) -> None:
    toml = """
[providers.p1]
kind = "openai"
[providers.p2]
kind = "openai"
[[tasks.t.steps]]
name = "a"
provider = "p2"
[[tasks.t.steps]]
name = "b"
provider = "p1"
fallback = ["p2"]
"""
    settings = loaded(tmp_path, toml)
    assert settings.tasks["t"].chain == ("p2",)
    assert settings.tasks["t"].all_providers == ("p2", "p1")


def test_the_needs_of_steps_are_names_of_offers(tmp_path: Path) -> None:
    settings = Settings(
        secret=SECRET,
        tasks={"t": {"steps": [{"name": "a", "provider": "studio", "needs": {"gpu": 2}}]}},
    )
    assert settings.names_of_offers == ("gpu",)
    frozen = settings.tasks["t"].frozen_steps()
    assert frozen is not None and frozen[0]["needs"] == {"gpu": 2}


def test_limits_are_those_of_the_type_unless_the_step_has_its_own() -> None:
    frozen = portrait(
        {}, {"time_limit_seconds": 60}, {"remote_limit_seconds": 7, "max_attempts": 1}, max_attempts=5
    ).frozen_steps()
    assert frozen is not None
    assert [each["max_attempts"] for each in frozen] == [5, 5, 1]
    assert [each["time_limit_seconds"] for each in frozen] == [600, 60, 600]
    assert [each["ai_timeout_seconds"] for each in frozen] == [300, 30, 300]
    assert [each["remote_limit_seconds"] for each in frozen] == [3600, 3600, 7]


@pytest.mark.parametrize(
    "later, many",
    [
        ({"for_each": "${steps.s0.images}"}, True),
        ({"inputs": ["${steps.s0.images}"]}, True),
        ({"inputs": ["${steps.s0.images.0}", "${steps.s0.images.3}"]}, True),
        ({"inputs": ["${steps.s0.images.0}"]}, False),
        ({"prompt": "${steps.s0.data.text}"}, False),
        ({}, False),
    ],
)
def test_a_step_makes_one_picture_unless_a_later_step_uses_more(later: dict[str, Any], many: bool) -> None:
    frozen = portrait({}, later, {}).frozen_steps()
    assert frozen is not None
    assert [each["count"] for each in frozen] == [many, False, True]


@pytest.mark.parametrize(
    "later, outputs",
    [
        ({"inputs": ["${params.images}"], "prompt": "${steps.s0.data.text}"}, ["json"]),
        ({"prompt": "${steps.s0.data.text}"}, ["images", "json"]),
        ({"inputs": ["${steps.s0.files.0}"]}, ["files"]),
        ({"inputs": ["${params.images}"]}, ["images"]),
        ({"for_each": "${steps.s0.data.scenes}", "prompt": "${each}", "inputs": ["${params.images.0}"]}, ["json"]),
    ],
)  # fmt: skip
def test_a_step_returns_what_later_steps_use(later: dict[str, Any], outputs: list[str]) -> None:
    frozen = portrait({}, later, outputs=["videos"]).frozen_steps()
    assert frozen is not None
    assert [each["outputs"] for each in frozen] == [outputs, ["videos"]]


@pytest.mark.parametrize(
    "steps, said",
    [
        ([{"name": "a"}, {"name": "a"}], "STEPS names 'a' twice, but each step may have a name of its own."),
        ([{}] * 33, "STEPS has 33 steps, but may have up to 32."),
        ([{"provider": "flux"}], "the step 's0' names the provider 'flux', but may name one of: studio."),
        ([{"fallback": ["flux"]}], "the step 's0' names the provider 'flux', but may name one of: studio."),
        (
            [{"inputs": ["${steps.s1.images}"]}, {}],
            "the step 's0' has ${steps.s1.images}, and that step comes later; it may refer to no step, since it is the"
            " first.",
        ),
        (
            [{}, {"prompt": "${steps.s1.data.x}"}],
            "that step is the step itself; it may refer to the steps before it: s0.",
        ),
        (
            [{}, {"inputs": ["${steps.sky.images}"]}],
            "that step does not exist; it may refer to the steps before it: s0.",
        ),
        (
            [{"prompt": "${prompt}"}],
            "the step 's0' has ${prompt}, but an expression may be ${params.prompt}, ",
        ),
        ([{"prompt": "${params.quality}"}], "has ${params.quality}, but an expression may be"),
        ([{"prompt": "${params.parameters}"}], "has ${params.parameters}, but an expression may be"),
        ([{"prompt": "${steps.s0}"}], "has ${steps.s0}, but an expression may be"),
        ([{}, {"inputs": ["${steps.s0.images.x}"]}], "has ${steps.s0.images.x}, but an expression may be"),
        (
            [{"prompt": "light ${params.prompt"}],
            "opens an expression that has no end: 'light ${params.prompt'.",
        ),
        ([{"parameters": {"a": [{"b": "${nothing}"}]}}], "has ${nothing}, but an expression may be"),
        ([{"prompt": "${each}"}], "has ${each}, but only a step with FOR_EACH may."),
        ([{"for_each": "${each}"}], "has ${each}, but only a step with FOR_EACH may."),
        (
            [{"for_each": "all"}],
            "has FOR_EACH = 'all', but FOR_EACH may be one expression for several values, such as",
        ),
        (
            [{}, {"for_each": "${steps.s0.images.0}"}],
            "has FOR_EACH = '${steps.s0.images.0}', but FOR_EACH may be one",
        ),
        ([{"for_each": "${params.prompt}"}], "has FOR_EACH = '${params.prompt}', but FOR_EACH may be one"),
        (
            [{"inputs": ["a picture"]}],
            "has 'a picture' in INPUTS, but an input may be one expression for files",
        ),
        (
            [{"inputs": ["${params.prompt}"]}],
            "has '${params.prompt}' in INPUTS, but an input may be one expression",
        ),
        (
            [{}, {"prompt": "like ${steps.s0.images.0}"}],
            "has ${steps.s0.images.0} in its PROMPT, but files may only be",
        ),
        (
            [{"parameters": {"p": "${params.images.0}"}}],
            "has ${params.images.0} in its PARAMETERS, but files may only",
        ),
        (
            [{"for_each": "${params.parameters.scenes}", "inputs": ["${each}"]}],
            "has ${each} in INPUTS, but its FOR_EACH goes over values that are no files.",
        ),
        (
            [{"for_each": "${params.images}", "prompt": "${each}"}],
            "has ${each} in its PROMPT, but files may only be in INPUTS.",
        ),
        (
            [{"inputs": ["${params.images.16}"]}],
            "an order of this type has at most 16 images: see INPUTS of the type.",
        ),
        (
            [{"for_each": "${params.videos}"}],
            "but an order of this type has no videos: see INPUTS of the type.",
        ),
        (
            [{"needs": {"GPU": 1}}],
            "STEPS has a step whose NEEDS names 'GPU', but a name may be a small letter",
        ),
        (
            [{"ai_timeout_seconds": 700}],
            "the step 's0' has AI_TIMEOUT_SECONDS = 700, but it may be anything below its TIME_LIMIT_SECONDS (600)",
        ),
    ],
)
def test_a_step_that_can_not_work_stops_the_start(steps: list[dict[str, Any]], said: str) -> None:
    assert said in refusal(*steps)


def test_a_parameter_that_no_order_can_have_stops_the_start() -> None:
    closed = {"properties": {"quality": {}, "size": {}}, "additionalProperties": False}
    said = refusal({"prompt": "${params.parameters.colour}"}, parameters=closed)
    assert "an order of this type may have only these parameters: quality, size." in said
    assert portrait({"prompt": "${params.parameters.size}"}, parameters=closed)


@pytest.mark.parametrize("member", ["provider", "fallback", "allow_providers", "needs"])
def test_what_belongs_to_a_step_is_refused_beside_steps(member: str) -> None:
    value: Any = {"provider": "studio", "needs": {"gpu": 1}}.get(member, ["studio"])
    assert f"{member.upper()} stands beside STEPS, but" in refusal({}, **{member: value})


@pytest.mark.parametrize(
    "line, said",
    [
        ("weight = 0", "weight in .* is '0', but may be a number above 0"),
        ('weight = "much"', "weight in .* is 'much', but may be a number"),
        ("name = 'Paint'", r"name in .* is 'Paint', but may be text that matches \^\[a-z\]"),
        ("kept_credits = -1", "kept_credits in .* is '-1', but may be a whole number from 0"),
        ("max_attempts = 0", "max_attempts in .* is '0', but may be a whole number from 1 up to 100"),
        ("time_limit_seconds = 0", "time_limit_seconds in .* is '0', but may be a number above 0"),
        ("inputs = []", r"inputs in .* is '\[\]', but may be a list that is not empty"),
        ('keep = "perhaps"', "keep in .* is 'perhaps', but may be true or false"),
        ("provder = 'x'", "holds 'provder', but may hold only ai_timeout_seconds, "),
    ],
)
def test_a_bad_value_of_a_step_is_named_with_what_it_may_be(tmp_path: Path, line: str, said: str) -> None:
    steps = "[[tasks.portrait.steps]]\nname = 'a'\nprovider = 'studio'\n"
    if line.startswith("name"):
        steps = "[[tasks.portrait.steps]]\nprovider = 'studio'\n"
    with pytest.raises(SettingsError, match=said) as refused:
        loaded(tmp_path, steps + line)
    assert "steps.0" in str(refused.value) and "\n" not in str(refused.value)


def test_a_step_without_a_name_or_a_provider_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="STEPS__0__PROVIDER is not set, but must be text"):
        loaded(tmp_path, "[[tasks.portrait.steps]]\nname = 'a'\n")


def steps_of(**weights: float | None) -> list[Step]:
    return [Step(name=name, provider="studio", weight=weight) for name, weight in weights.items()]


@pytest.mark.parametrize(
    "steps, learnt, weights",
    [
        (steps_of(a=None, b=None), {}, {"a": 1, "b": 1}),
        (steps_of(a=None, b=None), {"a": 4.0, "b": 0.5}, {"a": 4.0, "b": 0.5}),
        (steps_of(a=None, b=None), {"a": 4.0}, {"a": 1, "b": 1}),
        (steps_of(a=2, b=None), {"b": 30.0}, {"a": 2, "b": 1}),
        (steps_of(a=2, b=None), {"a": 10.0, "b": 30.0}, {"a": 2, "b": 6}),
        (steps_of(a=2, b=3), {"a": 10.0, "b": 30.0}, {"a": 2, "b": 3}),
        (steps_of(a=None, b=None), {"a": 0.0, "b": 3.0}, {"a": 1, "b": 1}),
    ],
)
def test_a_weight_that_is_not_declared_is_learnt(
    steps: list[Step], learnt: dict[str, float], weights: dict[str, float]
) -> None:
    assert weights_of(steps, learnt) == pytest.approx(weights)


@given(
    st.lists(st.none() | st.floats(0.001, 1_000_000), min_size=1, max_size=6),
    st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1e9, allow_nan=False)),
)
def test_every_step_has_a_weight_above_zero(given: list[float | None], learnt: dict[str, float]) -> None:
    steps = steps_of(**dict(zip("abcdef", given, strict=False)))
    weights = weights_of(steps, learnt)
    assert set(weights) == {step.name for step in steps}
    assert all(0 < weight < float("inf") for weight in weights.values())
    assert all(weights[step.name] == step.weight for step in steps if step.weight is not None)


@given(st.text())
def test_a_text_is_read_to_its_end_or_refused(text: str) -> None:
    """No text breaks the reader, and only `${…}` is an expression."""
    try:
        found = expressions_in(text)
    except BadExpression:
        assert "${" in text
    else:
        assert ("${" in text.replace("$${", "")) == bool(found)


@given(st.sampled_from(["${each}", "${params.prompt}", "${steps.a.images.0}", "${steps.a.data.x.y}"]))
def test_an_expression_is_written_as_it_was_read(text: str) -> None:
    found = whole(text)
    assert str(found) == text and whole(f" {text}") is None and expressions_in(f"$${{x}} {text}!") == [found]
