"""Every class of outcome once on `http`, then where each other provider differs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from actors.providers.base import (
    Accepted,
    Ambiguous,
    AtCapacity,
    ContentRejected,
    CutOff,
    Done,
    Failed,
    InvalidInput,
    Lost,
    NotGenuine,
    NotReady,
    ProviderDown,
    ProviderError,
    RateLimited,
    ReadsReports,
    Report,
    ResultGone,
    ResultLost,
    Running,
    Transient,
    UnknownOutcome,
    Unreadable,
)
from tests.support.fakes.dashscope_service import DashScope
from tests.support.fakes.fake_ai_service import Asked, FakeAiService, Reply
from tests.support.fakes.fal_service import Fal
from tests.support.fakes.openai_service import OpenAi
from tests.support.fakes.replicate_service import Replicate
from tests.support.pictures import picture
from tests.support.providers.adapters import Adapters, colour_of, error_of, images_of
from tests.support.providers.provider_settings import openai_settings, replicate_settings

SECRET = "sk-tell-nobody-789"


@pytest.fixture
async def adapters(tmp_path: Path) -> AsyncIterator[Adapters]:
    async with Adapters(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def shop() -> Iterator[FakeAiService]:
    with FakeAiService() as service:
        service.pictures["red"] = picture("red")
        yield service


# --- http: at once, by polling, by report ---


def jobs(service: FakeAiService, **answers: Reply) -> Callable[[Asked], Reply]:
    """A service of remote jobs: its answers to submit, poll, fetch and cancel."""
    usual = {
        "submit": Reply(document={"job": {"id": "j-1", "here": f"{service.url}/result/j-1"}}),
        "poll": Reply(document={"state": "ok"}),
        "result": Reply(document={"urls": [f"{service.url}/pictures/red"]}),
        "cancel": Reply(),
    }
    given = usual | answers
    return lambda asked: given[asked.path.strip("/").partition("/")[0]]


def polled(service: FakeAiService, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "http",
        "mode": "poll",
        "url": service.url,
        "id": "$.job.id",
        "submit": {
            "url": "/submit",
            "headers": {"Authorization": "Bearer ${secret.KEY}"},
            "body": {"prompt": "${params.prompt}", "tell": "${callback_url}"},
            "keep": {"here": "$.job.here"},
        },
        "poll": {
            "url": "/poll/${id}",
            "headers": {"Authorization": "Bearer ${secret.KEY}"},
            "status": "$.state",
            "map": {
                "wait": "queued",
                "run": "running",
                "ok": "done",
                "bad": "failed",
                "off": "cancelled",
                "?": "lost",
            },
            "pending_http": [202],
            "progress": "$.share",
            "progress_of": 1,
            "fetch": "${kept.here}",
        },
        "cancel": {"url": "/cancel/${id}"},
        "result": ["$.urls[*]"],
        "error": {
            "code": ["$.code"],
            "content_rejected": ["Indecent"],
            "halt": ["NoMoney"],
            "rate_limited": ["Slowly"],
            "at_capacity": ["Full"],
            "permanent": ["Blurred"],
            "retry": ["Hiccup"],
        },
        "secrets": {"KEY": SECRET},
        "allow_private_addresses": True,
        **changes,
    }


SUBMISSIONS: list[tuple[Reply, type[ProviderError]]] = [
    *((Reply(status), Ambiguous) for status in (500, 502, 520)),
    (Reply(500, {"code": "Strange"}), Ambiguous),
    (Reply(500, {"code": "Hiccup"}), Transient),
    (Reply(503), NotReady),
    (Reply(521), NotReady),
    (Reply(501), Transient),
    (Reply(200, {"code": "Hiccup"}), Transient),
    (Reply(429, headers={"Retry-After": "7"}), RateLimited),
    (Reply(200, {"code": "Slowly"}), RateLimited),
    (Reply(409), AtCapacity),
    (Reply(400, {"code": "Full"}), AtCapacity),
    (Reply(422), InvalidInput),
    (Reply(200, {"code": "Blurred"}), InvalidInput),
    (Reply(400, {"code": "Indecent"}), ContentRejected),
    (Reply(401), ProviderDown),
    (Reply(200, {"code": "NoMoney"}), ProviderDown),
    (Reply(200, {"job": {}}), UnknownOutcome),
    (Reply(cut="before"), CutOff),
    (Reply(504), UnknownOutcome),
]


@pytest.mark.parametrize(("reply", "class_"), SUBMISSIONS, ids=lambda value: getattr(value, "__name__", None))
async def test_the_class_of_a_submission_that_ends_badly(shop, adapters, reply, class_):
    shop.reply = jobs(shop, submit=reply)
    found = error_of(await adapters.submit(adapters.open(polled(shop))))
    assert type(found) is class_
    if class_ is RateLimited and reply.headers:
        assert found.wait_seconds == 7


POLLS: list[tuple[Reply, type[Any]]] = [
    (Reply(200, {"state": "wait"}), Running),
    (Reply(200, {"state": "In Progress"}), Running),  # a word that `map` does not name, and everybody knows
    (Reply(200, {"state": "SUCCEEDED"}), Done),
    (Reply(202, {}), Running),
    (Reply(200, {"state": "bad"}), ProviderError),
    (Reply(200, {"state": "bad", "code": "Indecent"}), ContentRejected),
    (Reply(200, {"state": "bad", "code": "Hiccup"}), Transient),
    (Reply(200, {"state": "off"}), ProviderError),
    (Reply(200, {"state": "?"}), Lost),
    (Reply(404), Lost),
    (Reply(410), Lost),
]


@pytest.mark.parametrize(("reply", "class_"), POLLS, ids=lambda value: getattr(value, "__name__", None))
async def test_the_class_of_what_a_poll_says(shop, adapters, reply, class_):
    shop.reply = jobs(shop, poll=reply)
    provider = adapters.open(polled(shop))
    remote = await adapters.submit(provider)
    assert isinstance(remote, Accepted) and remote.remote_id == "j-1"
    said = await adapters.poll(provider, remote)
    assert type(said.error if isinstance(said, Failed) else said) is class_


@pytest.mark.parametrize(
    ("reply", "class_"),
    [
        (Reply(500), Transient),
        (Reply(504), Transient),
        (Reply(cut="before"), Transient),
        (Reply(520), Transient),
        (Reply(524), Transient),
        (Reply(200, body=b"<html>a proxy's page</html>"), Unreadable),
        (Reply(200, {"code": "Strange"}), Unreadable),
        (Reply(200, {"state": "a word that nobody knows"}), Unreadable),
        (Reply(429), RateLimited),
        (Reply(403), ProviderDown),
        (Reply(401), ProviderDown),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_poll_that_says_nothing_of_the_job_does_not_end_it(shop, adapters, reply, class_):
    shop.reply = jobs(shop, poll=reply)
    provider = adapters.open(polled(shop))
    remote = await adapters.submit(provider)
    said = await adapters.poll(provider, remote)  # raised, so that the poll is repeated
    assert type(said) is class_


@pytest.mark.parametrize(
    ("reply", "class_"),
    [
        *[(Reply(status), Transient) for status in (401, 403, 408, 500, 502, 504, 520, 524)],
        (Reply(503), NotReady),
        *[(Reply(status), ResultGone) for status in (404, 410)],
        (Reply(429), RateLimited),
        (Reply(500, {"code": "Hiccup"}), Transient),
        (Reply(307, headers={"Location": "/elsewhere"}), Transient),
        (Reply(cut="before"), Transient),
        (Reply(422, {"code": "Indecent"}), Failed),
        (Reply(422), Failed),
        (Reply(200, {"code": "Indecent"}), Failed),
        (Reply(200, {"code": "Strange"}), Failed),
        (Reply(200, {"code": "Hiccup"}), Unreadable),
        (Reply(200, {}), Unreadable),
        (Reply(200, body=b'{"urls": ["http'), Unreadable),
        (Reply(200, {"urls": ["http://127.0.0.1:9/x"]}), Transient),
        (Reply(200, {"urls": ["{url}/pictures/none"]}), ResultGone),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_result_that_can_not_be_had_now_is_asked_for_again(
    shop, adapters, monkeypatch, reply, class_
):
    from actors.providers.common import collecting

    monkeypatch.setattr(collecting, "FETCH_AGAIN_SECONDS", 0)
    if isinstance(reply.document, dict) and "urls" in reply.document:
        urls = [each.replace("{url}", shop.url) for each in reply.document["urls"]]
        reply = dataclasses.replace(reply, document={"urls": urls})
    shop.reply = jobs(shop, result=reply)
    provider = adapters.open(polled(shop))
    remote = await adapters.submit(provider)
    assert type(await adapters.poll(provider, remote)) is class_


async def test_progress_and_the_pace_of_questions_come_with_the_polls(shop, adapters):
    shop.reply = jobs(shop, poll=Reply(200, {"state": "run", "share": 0.4}))
    provider = adapters.open(polled(shop))
    remote = await adapters.submit(provider)
    said = await adapters.poll(provider, remote)
    assert (said.progress, said.stage, said.poll_after_seconds) == (40, "running at the AI service", 2.0)
    old = Accepted("j-1", details=dict(remote.details) | {"accepted_at": 0})
    assert (await adapters.poll(provider, old)).poll_after_seconds == 30.0


@pytest.mark.parametrize(
    "elsewhere",
    [
        "http://127.0.0.1:9/x",
        "http://127.0.0.1.evil.test/x",
        "http://u@127.0.0.1/x",
        "file:///etc/passwd",
        "//x",
        "",
    ],
)
async def test_a_service_can_not_send_our_key_to_another_host(shop, adapters, elsewhere):
    shop.reply = jobs(shop, submit=Reply(document={"job": {"id": "j-1", "here": elsewhere}}))
    provider = adapters.open(polled(shop))
    remote = await adapters.submit(provider)
    before = len(shop.asked)
    assert "not its own" in error_of(await adapters.poll(provider, remote)).message
    assert [asked.path for asked in shop.asked[before:]] == ["/poll/j-1"]


async def test_only_a_service_with_our_callback_address_is_polled_seldom(shop, adapters):
    shop.reply = jobs(shop)
    order = adapters.job(callback_url="https://us.test/x")
    with Replicate() as replicate:
        for settings, reports in (
            (polled(shop), False),
            (reported(shop), True),
            (replicate_settings(replicate), False),
            (replicate_settings(replicate, mode="callback"), True),
        ):
            provider = adapters.open(settings, url="https://us.test")
            assert isinstance(provider, ReadsReports) is reports
            given = (
                order if reports else adapters.job()
            )  # an address is made for those alone that read reports
            assert (await provider.submit(given, adapters.report)).reports is reports


@pytest.mark.parametrize(
    ("reply", "over"),
    [
        *((Reply(status), True) for status in (200, 404, 400)),
        *((Reply(status), False) for status in (429, 500, 502, 504, 520, 524)),
    ],
)
async def test_a_cancel_is_over_when_the_service_has_it_or_can_not_do_it(shop, adapters, reply, over):
    shop.reply = jobs(shop, cancel=reply)
    provider = adapters.open(polled(shop))
    assert await provider.cancel(Accepted("j-1")) is over


def reported(service: FakeAiService, **changes: Any) -> dict[str, Any]:
    """A service that can only report."""
    how = {
        "status": "$.state",
        "map": {"OK": "done", "ERROR": "failed", "NOW": "running"},
        "result": ["$.out[*]"],
    }
    return polled(service, mode="callback", poll={}, callback=how, **changes)


@pytest.mark.parametrize(
    ("body", "class_"),
    [
        ({"state": "OK", "out": ["{url}/pictures/red"]}, Done),
        ({"state": "NOW"}, Running),
        ({"state": "ERROR", "code": "Indecent"}, Failed),
        ({"state": "OK", "out": []}, Failed),
    ],
    ids=["done", "running", "failed", "without pictures"],
)
async def test_a_report_is_read_as_a_poll_is(shop, adapters, body, class_):
    shop.reply = jobs(shop)
    provider = adapters.open(reported(shop))
    order = adapters.job(callback_url="https://us.test/v1/callbacks/token")
    remote = await adapters.submit(provider, order)
    assert shop.asked[-1].document["tell"] == "https://us.test/v1/callbacks/token"
    report = Report({}, json.dumps(body).replace("{url}", shop.url).encode())
    assert type(await provider.parse_callback(remote, order, report)) is class_
    assert isinstance(await adapters.poll(provider, remote), Running)  # it can't be asked


async def test_without_an_address_of_ours_a_service_that_only_reports_is_not_asked(shop, adapters):
    before = len(shop.asked)
    assert isinstance(await adapters.submit(adapters.open(reported(shop))), ProviderDown)
    assert len(shop.asked) == before


async def test_a_report_that_is_not_to_be_believed_is_only_a_reason_to_ask(shop, adapters):
    shop.reply = jobs(shop)
    provider = adapters.open(polled(shop, mode="callback"))
    order = adapters.job(callback_url="https://us.test/x")
    remote = await adapters.submit(provider, order)
    said = await provider.parse_callback(remote, order, Report({}, b'{"state": "ok", "urls": ["http://x"]}'))
    assert isinstance(said, Running)
    assert colour_of(images_of(await adapters.poll(provider, remote, order))[0]) == "red"


async def test_pictures_put_down_for_the_service_are_taken_away_when_the_job_is_over(shop, adapters):
    given = adapters.folder / "given"
    given.write_bytes(picture("blue"))
    link = polled(shop)
    link["submit"] = link["submit"] | {"body": {"image": "${input.0.url}"}}
    provider = adapters.open(link, url="https://us.test")
    order = adapters.job(inputs=(given,), input_keys=(None,))
    for ending in ("poll", "cancel"):
        shop.reply = jobs(shop)
        remote = await adapters.submit(provider, order)
        lying = [path for path in (adapters.folder / "files").rglob("*") if path.is_file()]
        assert len(lying) == 1
        if ending == "poll":
            images_of(await adapters.poll(provider, remote))
        else:
            await provider.cancel(remote)
        assert not lying[0].exists()


async def test_no_log_error_or_stored_detail_of_a_remote_job_shows_the_key(shop, adapters):
    said: list[str] = []
    leaky = {"code": "Blurred", "message": f"bad key {SECRET}", "echo": SECRET}
    settings = polled(shop)
    settings["error"] = settings["error"] | {"message": ["$.message"]}
    provider = adapters.open(settings)
    with structlog.testing.capture_logs() as logged:
        for name in ("submit", "poll", "result"):
            for reply in (Reply(400, leaky), Reply(500, leaky), Reply(cut="within")):
                shop.reply = jobs(shop, **{name: reply})
                remote = await adapters.submit(provider)
                if isinstance(remote, Accepted):
                    said.append(repr(remote))
                    remote = await adapters.poll(provider, remote)
                said.append(repr(remote) + str(getattr(remote, "error", "")))
    assert len(said) >= 9 and SECRET not in " ".join(said) + repr(logged)
    assert SECRET not in repr(provider.service)


# --- where the others differ ---


@pytest.mark.parametrize(
    ("code", "class_"),
    [
        ("Throttling.RateQuota", RateLimited),
        ("DataInspectionFailed", ContentRejected),
        ("Arrearage", ProviderDown),
        ("InvalidParameter.Size", InvalidInput),
        ("InternalError.Timeout", Transient),
    ],
)
@pytest.mark.parametrize("place", ["submission", "submission in a 200", "job"])
async def test_dashscope_says_the_same_in_three_places(adapters, code, class_, place):
    with DashScope() as service:
        provider = adapters.open(
            {"preset": "dashscope-wanx", "url": f"{service.url}/api/v1", "secrets": {"KEY": "sk-1"}}
        )
        if place == "job":
            service.states, service.ending = ["FAILED"], {"code": code, "message": "no"}
        else:
            service.refusal = (400 if place == "submission" else 200, code)
        assert type(error_of(await adapters.ended(provider))) is class_


async def test_dashscope_forgets_a_task_with_a_200(adapters):
    with DashScope() as service:
        provider = adapters.open(
            {"preset": "dashscope-wanx", "url": f"{service.url}/api/v1", "secrets": {"KEY": "sk-1"}}
        )
        assert isinstance(error_of(await adapters.poll(provider, Accepted("task-9"))), Lost)
        assert await provider.cancel(Accepted("task-9"))


@pytest.mark.parametrize(
    ("result", "class_"),
    [
        ((422, {"detail": [{"type": "content_policy_violation", "msg": "no"}]}), ContentRejected),
        ((422, {"detail": [{"type": "image_too_small", "msg": "no"}]}), InvalidInput),
        ((500, {"detail": [{"type": "internal_server_error", "msg": "no"}]}), Transient),
    ],
)
async def test_fal_puts_a_models_error_in_the_place_of_its_result(adapters, result, class_):
    with Fal() as service:
        service.result = result
        provider = adapters.open({"preset": "fal", "url": service.url, "secrets": {"KEY": "id:secret"}})
        said = await adapters.ended(provider)
        assert type(error_of(said)) is class_  # raised, where it is asked for again


async def test_fal_is_followed_to_its_own_addresses_alone(adapters):
    with Fal() as service:
        service.elsewhere = "https://queue.evil.test"
        provider = adapters.open({"preset": "fal", "url": service.url, "secrets": {"KEY": "id:secret"}})
        assert "not its own" in error_of(await adapters.ended(provider)).message


async def test_a_picture_that_ark_refuses_among_others_is_missing_and_alone_it_is_the_outcome(adapters):
    refused = {"error": {"code": "OutputImageSensitiveContentDetected", "message": "no"}}
    with OpenAi() as service:
        preset = {
            "preset": "ark-seedream",
            "url": f"{service.url}/v1",
            "secrets": {"KEY": "sk-1"},
            "allow_private_addresses": True,
        }
        provider = adapters.open(preset)
        service.data = [refused, {"url": service.picture_url()}]
        order = adapters.job(pictures=(0, 1), count=2)
        assert len(images_of(await adapters.ended(provider, order))) == 1
        service.data = [refused]
        assert isinstance(error_of(await adapters.ended(provider)), ContentRejected)


@pytest.mark.parametrize(
    ("error", "class_"),
    [
        ((500, "server_error", {}), Ambiguous),
        ((502, "", {}), Ambiguous),
        ((500, "server_error", {"x-should-retry": "true"}), Transient),
        ((500, "server_error", {"x-should-retry": "false"}), ProviderError),
        ((400, "invalid_value", {}), InvalidInput),
        ((400, "invalid_value", {"x-should-retry": "true"}), Transient),
        ((400, "moderation_blocked", {}), ContentRejected),
        ((429, "rate_limit_exceeded", {"retry-after-ms": "1500"}), RateLimited),
        ((429, "rate_limit", {"x-should-retry": "false"}), ProviderDown),
        ((429, "insufficient_quota", {}), ProviderDown),
        ((401, "invalid_api_key", {}), ProviderDown),
    ],
)
async def test_openai_says_itself_whether_to_ask_again(adapters, error, class_):
    with OpenAi() as service:
        service.error = error
        provider = adapters.open(openai_settings(service))
        found = error_of(await adapters.submit(provider))
        assert type(found) is class_
        if "retry-after-ms" in error[2]:
            assert found.wait_seconds == 1.5


@pytest.mark.parametrize(
    ("ending", "class_"), [("moderation_blocked", ContentRejected), ("silence", UnknownOutcome)]
)
async def test_an_openai_stream_that_ends_without_its_picture(adapters, ending, class_):
    with OpenAi() as service:
        service.stream_error = ending
        assert type(error_of(await adapters.submit(adapters.open(openai_settings(service))))) is class_


async def test_openai_has_no_job_to_look_up_so_no_answer_is_an_unknown_outcome(adapters):
    with OpenAi() as service:
        service.wait_seconds = 30
        found = error_of(
            await adapters.submit(
                adapters.open(openai_settings(service)), adapters.job(ai_timeout_seconds=0.4)
            )
        )
        assert (type(found), found.code) == (UnknownOutcome, "ai_timeout")


async def test_an_order_without_a_prompt_never_reaches_openai(adapters):
    with OpenAi() as service:
        provider = adapters.open(openai_settings(service))
        found = error_of(await adapters.submit(provider, adapters.job(params={"images": ["i-1"]})))
        assert isinstance(found, InvalidInput) and not service.asked


async def test_a_task_may_say_what_the_settings_of_openai_leave_open(adapters):
    with OpenAi() as service:
        provider = adapters.open(
            openai_settings(service, edit_style="none", parameters={"quality": "low"}, partial_images=0)
        )
        asked = {"quality": "max", "size": "1024x1536", "model": "dearest", "n": 9}
        await adapters.submit(
            provider, adapters.job(params={"images": ["i"], "prompt": "p", "parameters": asked})
        )
        assert service.asked[0][3] == {
            "model": "gpt-image-2",
            "prompt": "p",
            "n": 1,
            "quality": "low",
            "size": "1024x1536",
        }


@pytest.mark.parametrize(
    ("state", "more", "class_"),
    [
        ("failed", {"error": "CUDA out of memory"}, Transient),
        ("failed", {"error": "NSFW content detected. Try another prompt."}, ContentRejected),
        ("failed", {"error": "ValueError: 3 channels"}, ProviderError),
        ("canceled", {}, ProviderError),
        ("aborted", {}, Transient),
        ("succeeded", {"output": "http://10.0.0.1/x.png"}, ResultLost),
    ],
)
async def test_replicate_says_in_words_why_a_prediction_failed(adapters, state, more, class_):
    with Replicate() as service:
        service.states, service.more = [state], more
        said = await adapters.ended(adapters.open(replicate_settings(service)))
        assert isinstance(said, Failed) and type(said.error) is class_


@pytest.mark.parametrize(
    ("refusal", "class_"),
    [
        ((402, {"detail": "Insufficient credit"}, {}), ProviderDown),
        ((422, {"detail": "input: prompt is required"}, {}), InvalidInput),
        ((429, {"detail": "Request was throttled. Your rate limit resets in ~30s."}, {}), RateLimited),
        ((201, {"id": "../admin"}, {}), UnknownOutcome),
    ],
)
async def test_replicate_refuses_a_submission(adapters, refusal, class_):
    with Replicate() as service:
        service.refusal = refusal
        found = error_of(await adapters.submit(adapters.open(replicate_settings(service))))
        assert type(found) is class_
        if class_ is RateLimited:
            assert found.wait_seconds == 30  # said in words, without a header


async def test_a_replicate_prediction_without_a_picture_is_looked_at_again(adapters):
    with Replicate() as service:
        provider = adapters.open(replicate_settings(service))
        for service.states, service.more in ((["succeeded"], {"output": None}), (["a new word"], {})):
            remote = await adapters.submit(provider)
            assert type(await adapters.poll(provider, remote)) is Unreadable


async def test_replicate_does_not_know_the_job_any_more(adapters):
    with Replicate() as service:
        provider = adapters.open(replicate_settings(service))
        assert isinstance(error_of(await adapters.poll(provider, Accepted("gone"))), Lost)
        assert await provider.cancel(Accepted("gone"))


async def test_a_report_about_another_prediction_is_dropped(adapters):
    with Replicate() as service:
        provider = adapters.open(replicate_settings(service, mode="callback"), url="https://us.test")
        _, body = service.webhook("another", "succeeded")
        with pytest.raises(NotGenuine):
            await provider.parse_callback(Accepted("ours"), adapters.job(), Report({}, body))


@pytest.mark.parametrize(
    ("model", "path", "version"),
    [
        ("us/them", "/v1/models/us/them/predictions", None),
        ("us/them:" + "a" * 64, "/v1/predictions", "a" * 64),
        ("b" * 64, "/v1/predictions", "b" * 64),
    ],
)
async def test_where_a_prediction_of_a_model_is_ordered(adapters, model, path, version):
    with Replicate() as service:
        await adapters.submit(adapters.open(replicate_settings(service, model=model)))
        assert (service.asked[0][1], service.asked[0][3].get("version")) == (path, version)
