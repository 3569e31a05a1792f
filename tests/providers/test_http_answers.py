"""The meaning of an answer: pictures in every form, and the class of every error."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.providers.base import (
    Ambiguous,
    AtCapacity,
    ContentRejected,
    InvalidInput,
    NotReady,
    Postponed,
    ProviderDown,
    ProviderError,
    RateLimited,
    Transient,
    UnknownOutcome,
)
from actors.providers.common.answers import CLASSES, Answer, Rules, pictures_in, retry_after
from actors.providers.common.paths import parse_path
from actors.providers.common.picture_sources import At, Inline, data_uri, source_of
from supervisor.pictures.media_types import picture_type

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64)) * 3
JPEG = b"\xff\xd8\xff\xe0" + bytes(60)
NOW = 1_800_000_000.0


def rules(**classes: Any) -> Rules:
    return Rules(
        result=tuple(map(parse_path, ("$.output.results[*].url", "$.data[*].b64_json", "$.image"))),
        code=tuple(map(parse_path, ("$.code", "$.error.code", "$.detail"))),
        message=(parse_path("$.message"),),
        classes={name: tuple(globs) for name, globs in classes.items()},
        hide=lambda text: text.replace("sk-secret", "***"),
    )


def answer(status: int = 200, document: Any = None, *, body: bytes = b"", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, body or json.dumps(document).encode(), document)


def judged(given: Answer, **classes: Any) -> list[Any]:
    return pictures_in(given, rules(**classes), now=NOW)


def error(given: Answer, **classes: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        judged(given, **classes)
    return caught.value


# --- pictures ---


def test_pictures_are_found_as_addresses_base64_data_uris_and_bodies():
    results = {
        "output": {"results": [{"url": "https://a.test/1"}, {"code": "X"}, {"url": "http://a.test/2"}]}
    }
    assert judged(answer(document=results)) == [At("https://a.test/1"), At("http://a.test/2")]
    assert judged(answer(document={"data": [{"b64_json": base64.b64encode(PNG).decode()}]})) == [Inline(PNG)]
    assert judged(answer(document={"image": data_uri("image/jpeg", JPEG)})) == [Inline(JPEG)]
    assert judged(answer(body=PNG)) == [Inline(PNG)]


def test_the_first_path_that_finds_any_decides():
    both = {"output": {"results": [{"url": "https://a.test/1"}]}, "image": "https://a.test/2"}
    assert judged(answer(document=both)) == [At("https://a.test/1")]


@pytest.mark.parametrize(
    "value",
    ["", "hello", "ftp://a.test/1", "file:///etc/passwd", "/etc/passwd", "data:image/png;base64,AAAA", "data:,x", 5,
     None, {"url": "https://a.test"}, base64.b64encode(b"<html>").decode(), "https", "\x00"],
)  # fmt: skip
def test_values_that_are_no_picture_give_none(value):
    assert source_of(value) is None


@given(st.binary(max_size=200), st.sampled_from(["std", "url", "bare", "lines"]))
def test_base64_of_any_spelling_is_read(tail, spelling):
    data = PNG[:8] + tail
    text = (base64.urlsafe_b64encode if spelling == "url" else base64.b64encode)(data).decode()
    text = text.rstrip("=") if spelling == "bare" else text
    text = "\r\n".join(text[n : n + 20] for n in range(0, len(text), 20)) if spelling == "lines" else text
    assert source_of(text) == Inline(data)


@given(st.text())
def test_any_text_is_a_source_or_none(text):
    assert source_of(text) is None or isinstance(source_of(text), At | Inline)


def test_pictures_are_known_by_their_first_bytes():
    assert picture_type(b"RIFF\x00\x00\x00\x00WEBPVP8 ") == "image/webp"
    assert picture_type(b"XXXX\x00\x00\x00\x00WEBPVP8 ") is None
    assert picture_type(b"\x00\x00\x00\x1cftypavif") == "image/avif"
    assert picture_type(b"<svg onload=x>") is None
    assert picture_type(b"") is None


# --- errors ---


@pytest.mark.parametrize(
    ("status", "class_", "code"),
    [
        (400, InvalidInput, "invalid_input"),
        (422, InvalidInput, "invalid_input"),
        (413, InvalidInput, "invalid_input"),
        (401, ProviderDown, "provider_down"),
        (402, ProviderDown, "provider_down"),
        (403, ProviderDown, "provider_down"),
        (404, ProviderDown, "provider_down"),
        (302, ProviderDown, "provider_down"),
        (408, Transient, "provider_error"),
        (409, AtCapacity, "provider_error"),
        (429, RateLimited, "provider_error"),
        (425, Transient, "provider_error"),
        *((status, Ambiguous, "unknown_outcome") for status in (500, 502, 507, 520, 522, 599)),
        *((status, Transient, "provider_error") for status in (501, 505, 529)),
        *((status, NotReady, "provider_error") for status in (503, 521, 523, 525, 526, 530)),
        (504, UnknownOutcome, "unknown_outcome"),
        (524, UnknownOutcome, "unknown_outcome"),
        (200, ProviderError, "provider_error"),
        (204, ProviderError, "provider_error"),
    ],
)
def test_the_class_of_a_status(status, class_, code):
    found = error(answer(status, {}))
    assert (type(found), found.code) == (class_, code)
    assert str(found).endswith(".")


def test_503_with_retry_after_means_a_full_service():
    found = error(answer(503, {}, retry_after="7"))
    assert type(found) is AtCapacity and found.wait_seconds == 7


def test_retry_after_of_a_service_is_waited_for():
    found = error(answer(429, {}, retry_after="30"))
    assert isinstance(found, RateLimited) and found.wait_seconds == 30
    assert isinstance(usual := error(answer(429, {})), Postponed) and usual.wait_seconds > 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:10 GMT"}, 10),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "999999999999"}, 86_400),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
    ],
)
def test_retry_after_in_all_its_forms(headers, seconds):
    assert retry_after(headers, NOW) == seconds


@given(st.text(), st.text())
def test_retry_after_never_fails(one, other):
    assert (retry_after({"retry-after": one, "retry-after-ms": other}, NOW) or 0) >= 0


@pytest.mark.parametrize(
    ("name", "class_"),
    [
        ("content_rejected", ContentRejected),
        ("halt", ProviderDown),
        ("at_capacity", AtCapacity),
        ("rate_limited", RateLimited),
        ("permanent", InvalidInput),
        ("retry", Transient),
    ],
)
def test_the_settings_lists_come_before_the_status(name, class_):
    for status in (200, 400, 500):
        found = error(answer(status, {"code": "Throttling.RateQuota"}), **{name: ["Throttling*"]})
        assert type(found) is class_
    assert type(error(answer(418, {}), **{name: ["41?"]})) is class_


def test_a_named_code_beats_a_named_status_and_the_grave_lists_the_mild():
    given = answer(400, {"code": "DataInspectionFailed"})
    assert isinstance(error(given, retry=["400"], content_rejected=["DataInspection*"]), ContentRejected)
    assert isinstance(error(given, retry=["Data*"], halt=["*Failed"]), ProviderDown)


def test_an_error_inside_a_200_is_an_error_and_code_0_is_none():
    found = error(answer(200, {"code": "InternalError", "message": "out of paint"}))
    assert type(found) is ProviderError and "InternalError" in str(found) and "out of paint" in str(found)
    assert judged(answer(document={"code": 0, "image": "https://a.test/1"})) == [At("https://a.test/1")]
    assert judged(answer(document={"code": "ok", "image": "https://a.test/1"})) == [At("https://a.test/1")]


def test_a_picture_that_comes_with_a_listed_code_is_no_result():
    blurred = {"code": "CONTENT_FILTERED", "image": "https://a.test/1"}
    assert isinstance(error(answer(document=blurred), content_rejected=["CONTENT_FILTERED"]), ContentRejected)


def test_a_services_error_is_shown_short_on_one_line_and_without_secrets():
    said = "your key sk-secret\n\x00 is\tfine " + "but long " * 100
    found = error(answer(422, {"code": "sk-secret", "message": said}))
    assert "sk-secret" not in str(found) and "***" in str(found)
    assert len(str(found)) < 400 and "\n" not in str(found) and "\x00" not in str(found)


def test_a_refused_keys_sentence_is_not_repeated():
    found = error(answer(401, {"code": "InvalidApiKey", "message": "Incorrect key sk-se***et"}))
    assert "sk-se" not in str(found) and "InvalidApiKey" in str(found)


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["code", "error", "message", "output", "data", "image", "url"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)


@given(st.integers(100, 599), documents, st.sampled_from(CLASSES), st.text(max_size=4))
def test_every_answer_is_pictures_or_an_error_with_a_class(status, document, name, glob):
    try:
        assert judged(Answer(status, {}, b"", document), **{name: [glob]})
    except ProviderError as found:
        assert str(found).endswith(".") and found.code
