"""Templates of requests: the value of each placeholder, and templates that are refused before any request."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.providers.base import InvalidInput
from actors.providers.common.requests import Outgoing, as_json, request_template
from actors.providers.common.template import (
    MISSING,
    BadTemplate,
    InputPicture,
    Placeholder,
    check,
    param,
    parse,
)

PHOTO = InputPicture(b"\xff\xd8\xff photo", "image/jpeg", "input-0.jpg")
PARAMS = {"prompt": "a b/ü", "count": 3, "sceneId": None, "parameters": {"steps": [10, 20], "hd": True}}
VALUES: dict[str, Any] = {
    "task_id": "t-1",
    "reference": "t-1.1.1.0",
    "count": 2,
    "seed": 77,
    "input.0.bytes": PHOTO,
    "input.0.url": "https://here/files/a.jpg?sig=x",
    "secret.KEY": "sk-tell-nobody",
}


def lookup(placeholder: Placeholder) -> Any:
    if placeholder.name.startswith("params."):
        return param(PARAMS, placeholder)
    return VALUES.get(placeholder.name, MISSING)


def rendered(value: Any) -> Any:
    return parse(value).render(lookup)


def outgoing(**changes: Any) -> Outgoing:
    given = {
        "method": "POST",
        "address": "http://ai.test/run",
        "headers": {},
        "query": {},
        "body": None,
        "encoding": "json",
    }
    return request_template(**(given | changes)).render(lookup)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("${params.count}", 3),
        ("${params.parameters.hd}", True),
        ("${params.parameters.steps}", [10, 20]),
        ("${params.parameters.steps.1}", 20),
        ("${params.sceneId}", None),
        (" ${params.count}", " 3"),
        ("${ params.count }", 3),
        ("n=${count}, hd=${params.parameters.hd}, ${params.parameters.steps}", "n=2, hd=true, [10,20]"),
        ("scene=${params.sceneId}.", "scene=."),
        ("Bearer ${secret.KEY}", "Bearer sk-tell-nobody"),
        ("$${task_id} costs $5", "${task_id} costs $5"),
        ("${input.0.bytes}", PHOTO),
        ("x${input.0.bytes}", "x" + base64.b64encode(PHOTO.data).decode()),
        (7, 7),
        (None, None),
        ([True, {"a": "${seed}"}], [True, {"a": 77}]),
    ],
)
def test_a_whole_value_keeps_its_type_and_a_part_becomes_text(template, value):
    assert rendered(template) == value


def test_an_empty_placeholder_is_left_out_and_is_empty_inside_text():
    assert rendered({"a": "${params.parameters.cfg}", "b": 1}) == {"b": 1}
    assert rendered(["${input.0.url}", "${input.1.url}"]) == [VALUES["input.0.url"]]
    assert rendered("<${params.nothing}>") == "<>"
    assert rendered("${params.nothing.below}") is MISSING
    assert rendered("${params.prompt.below}") is MISSING


@pytest.mark.parametrize(
    "template",
    [
        "${}",
        "${input.0}",
        "${input.person.url}",
        "${input.0.path}",
        "${params}",
        "${params..a}",
        "${secret}",
        "${env.HOME}",
        {"deep": ["${nonsense}"]},
        "${count",
        "${a${b}}",
    ],
)
def test_an_unknown_placeholder_is_refused_by_name(template):
    with pytest.raises(BadTemplate):
        parse(template)


def test_a_secret_must_be_set_and_a_synchronous_request_has_no_remote_id():
    with pytest.raises(BadTemplate, match=r"\$\{secret.OTHER\} is not set"):
        check(parse("${secret.OTHER}").placeholders, secrets={"KEY"})
    for name in ("id", "callback_url"):
        with pytest.raises(BadTemplate, match="has no value here"):
            check(parse(f"${{{name}}}").placeholders, secrets=())
    check(parse({"a": "${secret.KEY} ${params.x}"}).placeholders, secrets={"KEY"})


plain_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text().filter(lambda text: "${" not in text),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(plain_json)
def test_a_value_without_placeholders_is_itself(value):
    assert rendered(value) == value


@given(st.text())
def test_escaped_text_is_the_text(text):
    assert rendered(text.replace("${", "$${")) == text


@given(st.text(alphabet="${}abc.0123456789 input params secret", max_size=40))
def test_any_text_renders_or_is_refused(text):
    try:
        template = parse(text)
    except BadTemplate:
        return
    template.render(lambda placeholder: "value")


@given(plain_json)
def test_the_value_of_a_param_is_never_read_as_a_template(value):
    planted = {"evil": "${secret.KEY}", "value": value}
    template = parse({"whole": "${params.evil}", "part": "<${params.evil}>"})
    out = template.render(lambda placeholder: param(planted, placeholder))
    assert out == {"whole": "${secret.KEY}", "part": "<${secret.KEY}>"}


# --- requests ---


def test_a_json_body_holds_pictures_in_base64():
    request = outgoing(body={"image": "${input.0.bytes}", "n": "${count}", "text": "${params.prompt}"})
    assert json.loads(request.body or b"") == {
        "image": base64.b64encode(PHOTO.data).decode(),
        "n": 2,
        "text": "a b/ü",
    }
    assert request.headers == {"Content-Type": "application/json"}


def test_a_multipart_body_holds_files_repeated_names_and_json():
    body = {"image[]": ["${input.0.bytes}", "${input.1.bytes}"], "n": "${count}", "more": {"a": [1]}}
    fields = outgoing(body=body, encoding="multipart").fields
    assert fields is not None
    assert [(field.name, field.value, field.type, field.filename) for field in fields] == [
        ("image[]", PHOTO.data, "image/jpeg", "input-0.jpg"),
        ("n", "2", None, None),
        ("more", '{"a":[1]}', "application/json", None),
    ]


def test_a_request_without_a_body_has_none():
    assert outgoing(method="GET").body is None


def test_values_in_the_address_are_quoted_and_can_not_change_where_it_leads():
    request = outgoing(address="http://ai.test/${params.prompt}/x", query={"q": "${params.prompt}&", "n": 1})
    assert request.address == "http://ai.test/a%20b%2F%C3%BC/x?q=a+b%2F%C3%BC%26&n=1"
    for address in ("http://${params.prompt}/", "${params.prompt}", "ftp://ai.test/", "http:///x"):
        with pytest.raises(BadTemplate):
            outgoing(address=address)
    climbing = request_template("POST", "http://ai.test/a/${params.up}", {}, {}, None, "json")
    with pytest.raises(InvalidInput):
        climbing.render(lambda placeholder: "..")


def test_a_value_can_not_add_a_header():
    template = request_template("POST", "http://ai.test/", {"X-Prompt": "${params.p}"}, {}, None, "json")
    with pytest.raises(InvalidInput):
        template.render(lambda placeholder: "a\r\nX-Evil: 1")
    with pytest.raises(BadTemplate):
        outgoing(headers={"bad name": "x"})


def test_a_content_type_of_ones_own_is_kept():
    assert outgoing(headers={"content-type": "application/vnd.x+json"}, body={}).headers == {
        "content-type": "application/vnd.x+json"
    }


def test_json_takes_nothing_it_does_not_know():
    with pytest.raises(TypeError):
        as_json({"a": object()})
