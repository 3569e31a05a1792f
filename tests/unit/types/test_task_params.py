"""The parameters of a task, exactly by the contract."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Settings
from supervisor.core.task_params import (
    BadTask,
    _is_plainly_storable,
    _unstorable_in,
    check_params,
    check_submission,
)

SETTINGS = Settings(secret="of the tests, and of nothing else 0123", tasks={"stylise": {}})


def _errors(body: Any, *, may_jump: bool = False) -> dict[str, str]:
    with pytest.raises(BadTask) as caught:
        check_submission(body, SETTINGS, may_jump_the_queue=may_jump)
    assert str(caught.value)
    return dict(caught.value.errors)


def _order(type_: str = "photography", **params: Any) -> dict[str, Any]:
    images = {"photography": ["a"], "fitting": ["a", "b"], "stylise": ["a"]}.get(type_, ["a"])
    return {"type": type_, "params": {"images": images, **params}}


def test_a_plain_order_has_the_contracts_defaults() -> None:
    order = check_submission(_order(), SETTINGS, may_jump_the_queue=False)
    assert (order.checked.count, order.checked.scene_id, order.checked.prompt) == (1, None, "")
    assert (order.priority, order.run_after) == (0, None)
    assert order.params == {"images": ["a"]}, "params are stored as they were given"


@pytest.mark.parametrize("count", [0, 9, -1, "2", 1.5, 2.0, True, None, [1], 10**30])
def test_count_is_a_whole_number_from_1_to_8(count: Any) -> None:
    assert list(_errors(_order(count=count))) == ["/params/count"]


@pytest.mark.parametrize(
    ("type_", "images"),
    [
        ("photography", []),
        ("photography", ["a", "b"]),
        ("fitting", ["a"]),
        ("fitting", ["a", "b", "c"]),
        ("stylise", []),
        ("stylise", ["a"] * 17),
        ("stylise", "a"),
        ("stylise", None),
        ("stylise", {"0": "a"}),
    ],
)
def test_each_type_takes_its_number_of_images(type_: str, images: Any) -> None:
    assert list(_errors({"type": type_, "params": {"images": images}})) == ["/params/images"]


def test_own_types_take_1_to_16_images() -> None:
    for count in (1, 16):
        check_params("stylise", {"images": ["a"] * count}, SETTINGS)


@pytest.mark.parametrize(
    "image", ["01J8ZQ4", "A_b-9", "x" * 64, "https://example.org/a.jpg?x=1", "https://[::1]/a"]
)
def test_an_image_is_an_id_or_an_https_url(image: str) -> None:
    checked = check_params("photography", {"images": [image]}, SETTINGS)
    assert checked.image_ids == (() if image.startswith("https") else (image,))


@pytest.mark.parametrize(
    "image",
    [
        "",
        "a b",
        "ä",
        "x" * 65,
        "http://example.org/a.jpg",
        "ftp://example.org/a",
        "file:///etc/passwd",
        "https://",
        "https:///a",
        "https://user:pass@example.org/a",
        "https://example.org/" + "a" * 2048,
        "https://example.org/a b",
        "https://example.org/\n",
        "https://example.org:99999/",
        "https://[::1/",
        "data:image/png;base64,AAAA",
        "a\x00",
        "\ud800",
        7,
        None,
    ],
)
def test_a_wrong_image_is_named_by_its_place(image: Any) -> None:
    assert list(_errors({"type": "fitting", "params": {"images": ["a", image]}})) == ["/params/images/1"]


def test_photography_knows_its_scenes_and_fitting_keeps_and_ignores_any() -> None:
    for scene in ("studio", "sunset", "night"):
        check_params("photography", {"images": ["a"], "sceneId": scene}, SETTINGS)
    for other in ("beach", "", "STUDIO", None, 1):
        assert list(_errors(_order(sceneId=other))) == ["/params/sceneId"]
    order = check_submission(_order("fitting", sceneId="beach"), SETTINGS, may_jump_the_queue=False)
    assert order.params["sceneId"] == "beach"


_PAINTER = {"painter": {"kind": "openai", "url": "https://example.org/v1"}}


def _photography(**task_type: Any) -> Settings:
    return Settings(
        secret="of the tests, and of nothing else 0123", tasks={"photography": task_type}, providers=_PAINTER
    )


def test_photography_by_a_service_of_ones_own_has_its_scenes_and_up_to_16_photos() -> None:
    any_scene = _photography(provider="painter")
    scenes = _photography(provider="painter", scenes=["beach", "forest"])
    for settings in (any_scene, scenes):
        check_params("photography", {"images": ["a"] * 16, "sceneId": "beach"}, settings)
        check_params("photography", {"images": ["a"]}, settings)
        with pytest.raises(BadTask, match="images"):
            check_params("photography", {"images": ["a"] * 17}, settings)
    check_params("photography", {"images": ["a"], "sceneId": "studio"}, any_scene)
    with pytest.raises(BadTask, match=r"sceneId.*'studio'.*beach, forest") as caught:
        check_params("photography", {"images": ["a"], "sceneId": "studio"}, scenes)
    assert caught.value.errors[0][0] == "/sceneId"


@pytest.mark.parametrize("way_back", [{"fallback": ["studio"]}, {"allow_providers": ["studio"]}])
def test_photography_that_may_end_at_the_studio_is_what_the_studio_can_make(way_back: dict[str, Any]) -> None:
    settings = _photography(provider="painter", **way_back)
    for params in ({"images": ["a", "b"]}, {"images": ["a"], "sceneId": "beach"}):
        with pytest.raises(BadTask):
            check_params("photography", params, settings)


def test_scenes_narrow_any_type() -> None:
    settings = Settings(
        secret="of the tests, and of nothing else 0123",
        tasks={"photography": {"scenes": ["night"]}, "own": {"scenes": ["x"]}},
    )
    check_params("photography", {"images": ["a"], "sceneId": "night"}, settings)
    check_params("own", {"images": ["a"], "sceneId": "x"}, settings)
    for type_ in ("photography", "own"):
        with pytest.raises(BadTask, match="sceneId"):
            check_params(type_, {"images": ["a"], "sceneId": "sunset"}, settings)


def test_a_cloud_id_is_refused_with_the_way_to_get_a_link() -> None:
    (sentence,) = _errors(
        {"type": "photography", "params": {"images": ["cloud://env.bucket/a.jpg"]}}
    ).values()
    assert "getTempFileURL" in sentence


def test_text_holds_no_nul_and_no_lone_surrogate_and_a_prompt_4000_characters() -> None:
    check_params("photography", {"images": ["a"], "prompt": "好" * 4000}, SETTINGS)
    for prompt in ("x" * 4001, "a\x00b", json.loads(r'"\ud83d"'), 5, None):
        assert list(_errors(_order(prompt=prompt))) == ["/params/prompt"]
    check_params("photography", {"images": ["a"], "prompt": json.loads(r'"\ud83d\ude00"')}, SETTINGS)


def test_parameters_may_be_any_object_that_can_be_stored() -> None:
    deep: Any = {}
    for _ in range(70):
        deep = {"a": deep}
    fine = {"a": [1, None, {"b": 2.5, "c": "x" * 5000}], "": True, "big": 10**30}
    assert check_params("stylise", {"images": ["a"], "parameters": fine}, SETTINGS).parameters == fine
    for parameters, pointer in [
        ([], ""),
        ("{}", ""),
        (None, ""),
        ({"a": [1, {"b": float("inf")}]}, "/a/1/b"),
        ({"a": float("nan")}, "/a"),
        ({"a/b": {"~": "\x00"}}, "/a~1b/~0"),
        ({"k\ud800": 1}, ""),
        (deep, "/a" * 64),
    ]:
        assert list(_errors(_order("stylise", parameters=parameters))) == [f"/params/parameters{pointer}"]


def test_a_misspelt_member_is_refused_where_it_stands() -> None:
    assert list(_errors(_order(scene_id="night"))) == ["/params/scene_id"]
    assert list(_errors({**_order(), "Priority": 1})) == ["/Priority"]


def test_an_unknown_type_has_its_own_code() -> None:
    with pytest.raises(BadTask) as caught:
        check_submission(_order("portrait"), SETTINGS, may_jump_the_queue=False)
    assert caught.value.code == "unknown_type" and caught.value.errors[0][0] == "/type"


def test_a_user_may_only_lower_the_priority() -> None:
    for priority in (-10, 0):
        check_submission({**_order(), "priority": priority}, SETTINGS, may_jump_the_queue=False)
    check_submission({**_order(), "priority": 10}, SETTINGS, may_jump_the_queue=True)
    assert list(_errors({**_order(), "priority": 1})) == ["/priority"]
    for wrong in (-11, 11, "0", 0.0, True, None):
        assert list(_errors({**_order(), "priority": wrong}, may_jump=True)) == ["/priority"]


def test_run_after_is_kept_in_utc_with_milliseconds() -> None:
    for given_, kept in [
        ("2027-01-31T09:00:00+08:00", "2027-01-31T01:00:00.000Z"),
        ("2027-01-31T09:00:00Z", "2027-01-31T09:00:00.000Z"),
        ("2027-01-31t09:00:00.123456z", "2027-01-31T09:00:00.123Z"),
    ]:
        order = check_submission({**_order(), "run_after": given_}, SETTINGS, may_jump_the_queue=False)
        assert order.run_after == kept
    for wrong in (
        "2027-01-31",
        "2027-01-31T09:00:00",
        "2027-02-30T09:00:00Z",
        "tomorrow",
        5,
        None,
        "0001-01-01T00:00:00+23:00",
    ):
        assert list(_errors({**_order(), "run_after": wrong})) == ["/run_after"]


@pytest.mark.parametrize(
    "body", [None, [], "x", 5, {}, {"type": "photography"}, {"params": {"images": ["a"]}}]
)
def test_a_body_of_another_shape_is_wrong_not_broken(body: Any) -> None:
    assert _errors(body)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=20,
)


@given(_JSON, _JSON)
def test_whatever_comes_is_either_fit_to_be_stored_or_refused(params: Any, parameters: Any) -> None:
    for body in (params, _order("stylise", parameters=parameters), {"type": "stylise", "params": params}):
        try:
            order = check_submission(body, SETTINGS, may_jump_the_queue=False)
        except BadTask as bad:
            for pointer, detail in bad.errors:
                assert pointer == "" or pointer.startswith("/")
                json.dumps([pointer, detail]).encode("ascii")
                f"{pointer}{detail}".encode()
        else:
            text = json.dumps(order.params, ensure_ascii=False, allow_nan=False)
            assert "\x00" not in text and text.encode()


_JSON_LIKE = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["\x00", "\ud800", "\\u0000"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@given(value=_JSON_LIKE, depth=st.integers(0, 70))
def test_the_quick_check_accepts_only_what_the_full_check_accepts(value: Any, depth: int) -> None:
    for _ in range(depth):
        value = [value]
    assert not (_is_plainly_storable(value) and list(_unstorable_in(value)))


def test_an_ordinary_order_is_not_looked_at_closely() -> None:
    ordinary = {
        "style": "née 😀",
        "steps": [1, 2.5],
        "lora": {"a": None},
        **{f"p{n}": n for n in range(4000)},
    }
    assert _is_plainly_storable(ordinary)
