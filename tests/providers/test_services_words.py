"""A service's own error text: one sentence for the user, all of it for operators, without secrets and links."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actors.attempts.outcomes import after_error
from actors.providers.base import Failed, InvalidInput, ProviderError, Transient
from actors.providers.comfyui.history import end_of
from actors.providers.common.answers import MOST_DETAIL_CHARACTERS, Answer, Rules, error_in
from supervisor.core import rescue
from supervisor.store.tasks import claims, history

SECRET = "sk-tell-nobody-789"


def said_by(status: int, document: Any) -> ProviderError:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    parsed = None if isinstance(document, bytes) else document
    hiding = Rules(hide=lambda text: text.replace(SECRET, "***"))
    error = error_in(Answer(status, {}, body, parsed), hiding, now=0.0)
    assert error is not None
    return error


# As Gradio 6.31, LitServe 0.2.19 and BentoML 1.4.40 answered; the last is FastAPI's own.
@pytest.mark.parametrize(
    ("status", "document", "sentence"),
    [
        (500, {"error": "The model has no such style.", "title": "Error"}, "The model has no such style."),
        (422, {"detail": "The picture is too small."}, "The picture is too small."),
        (400, [{"error": "The picture is too small."}], "The picture is too small."),
        (
            400,
            {"error": "1 validation error for Input", "detail": [{"msg": "Field required"}]},
            "1 validation error",
        ),
        (422, {"detail": [{"loc": ["body"], "msg": "Field required"}]}, "Field required"),
    ],
)
def test_a_servers_own_sentence_reaches_the_user_without_a_setting(status, document, sentence):
    error = said_by(status, document)
    assert sentence in error.message and f"HTTP {status}" in error.message
    assert json.dumps(document).replace('"', "") in error.detail.replace('"', "")


def test_secrets_and_links_are_removed_and_long_texts_are_cut():
    error = said_by(400, {"error": f"bad {SECRET} see https://files.example/x?sig=1 {'x' * 9000}"})
    for text in (error.message, error.detail):
        assert SECRET not in text and "files.example" not in text and "(link)" in text
    assert len(error.message) < 400 and len(error.detail) <= MOST_DETAIL_CHARACTERS


def test_a_refused_key_is_recognised_by_its_status_alone():
    error = said_by(401, {"error": "Incorrect key sk-te***789"})
    assert "sk-te" not in error.message and error.detail == ""


def test_an_answer_that_is_a_picture_has_no_words():
    assert said_by(500, b"\x89PNG\r\n\xff\xfe").detail == ""


def test_operators_see_the_whole_and_users_the_sentence(store, claimed_task):
    claim = claimed_task("o-7")
    error = InvalidInput("The AI service can not work with this (HTTP 400).")
    error.detail = "node 4: ckpt_name not in list"
    outcome = after_error(rescue.Budget(0, 0, 3), error, may_bill_twice=True, chance=0.5)
    assert outcome.detail == error.detail
    store.write(
        lambda tx: claims.retry(
            tx, claim.task_id, claim.lease, 1.0, code=error.code, message=error.message, detail=outcome.detail
        )
    )

    def failed(user: str | None) -> dict[str, Any]:
        happened = store.database.read(lambda tx: history.timeline(tx, claim.task_id, user))
        return next(each["error"] for each in happened if each["event"] == "attempt_failed")

    assert failed(None)["detail"] == error.detail
    assert failed("o-7") == {"code": "invalid_input", "message": error.message}


def entry(outputs: dict[str, Any], *messages: Any, status: str = "success") -> dict[str, Any]:
    return {"p-1": {"outputs": outputs, "status": {"status_str": status, "messages": list(messages)}}}


def test_comfyuis_exception_reaches_the_user_and_its_traceback_the_operator():
    message = ["execution_error", {"node_id": "4", "node_type": "KSampler", "exception_type": "ValueError",
               "exception_message": "sampler is not\n known", "traceback": ["  File x.py\n", "  boom\n"]}]  # fmt: skip
    failed = end_of(entry({}, message, status="error"), "p-1", ())
    assert isinstance(failed, Failed) and type(failed.error) is ProviderError
    assert failed.error.message == "ComfyUI's node KSampler has failed (ValueError: sampler is not known)."
    assert "node 4" in failed.error.detail and "File x.py" in failed.error.detail
    memory = ["execution_error", {"exception_type": "torch.OutOfMemoryError", "exception_message": "CUDA"}]
    out = end_of(entry({}, memory, status="error"), "p-1", ())
    assert isinstance(out, Failed) and isinstance(out.error, Transient)


def test_a_workflow_that_only_shows_its_picture_gets_advice():
    shown = {"7": {"images": [{"filename": "x.png", "type": "temp"}]}}
    failed = end_of(entry(shown), "p-1", ())
    assert isinstance(failed, Failed) and "PreviewImage" in failed.error.message
    assert 'options.outputs = ["7"]' in failed.error.message
    nothing = end_of(entry({}), "p-1", ())
    assert isinstance(nothing, Failed) and "SaveImage" in nothing.error.message
