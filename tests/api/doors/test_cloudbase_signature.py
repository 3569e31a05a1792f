"""The signature of CloudBase's server SDKs: recorded requests are accepted, every alteration is refused."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.doors.cloudbase.signature import BadSignature, Claim, check_time, is_signed_by, read_claim

# What wx-server-sdk 4.0.2 sent for collection('task_queue').doc('T1').field({ status: true }).get(), key "SKEY".
SENT: dict[str, Any] = {
    "host": "127.0.0.1:18733",
    "path": "/tcb/admin",
    "query": "env=&seqId=1a2263ea064_5",
    "headers": {
        "content-type": "application/json",
        "user-agent": "tcb-node-sdk/3.17.2",
        "x-tcb-source": ",unknown",
        "x-client-timestamp": "1795937968228",
        "x-sdk-version": "wx-server-sdk/4.0.2",
        "host": "127.0.0.1:18733",
    },
    "body": {
        "collectionName": "task_queue",
        "query": '{"_id":"T1"}',
        "queryType": "DOC",
        "multi": False,
        "projection": '{"status":{"$numberInt":"1"}}',
        "action": "database.getDocument",
        "envName": "",
        "wxCloudApiToken": "",
        "wxCloudbaseAccesstoken": "",
        "tcb_sessionToken": "",
        "crossAuthorizationToken": "",
    },
}
AUTHORIZATION = (
    "TC3-HMAC-SHA256 Credential=SID/2026-11-29/tcb/tc3_request, "
    "SignedParams=action;collectionname;multi;projection;query;querytype, "
    "SignedHeaders=content-type;host;user-agent;x-client-timestamp;x-sdk-version;x-tcb-source, "
    "Signature=e2a7e62b9482857de333330184978717088cbe25c84846c04fe7e6eb881cccce"
)
CLAIM = read_claim(AUTHORIZATION, "1795937967")


def _with(place: str, name: str, value: Any) -> dict[str, Any]:
    return {**SENT, place: {**SENT[place], name: value}}


def test_a_signature_of_the_sdk_is_recomputed() -> None:
    assert is_signed_by("SKEY", CLAIM, **SENT)
    assert not is_signed_by("SKEZ", CLAIM, **SENT)


@pytest.mark.parametrize(
    "altered",
    [
        {**SENT, "host": "127.0.0.1:18734"},
        {**SENT, "path": "/tcb/admin/"},
        {**SENT, "query": "env=&seqId=1a2263ea064_6"},
        _with("headers", "x-client-timestamp", "1795937968229"),
        _with("body", "query", '{"_id":"T2"}'),
        _with("body", "multi", True),
        _with("body", "action", "database.removeDocument"),
    ],
)
def test_nothing_that_counts_can_be_altered(altered: dict[str, Any]) -> None:
    assert not is_signed_by("SKEY", CLAIM, **altered)


@pytest.mark.parametrize(
    "altered",
    [
        _with("body", "upsert", False),
        _with("body", "Query", "{}"),
        _with("body", "a b", "c"),
        _with("body", "action", ""),
        {**SENT, "headers": {}},
        {**SENT, "body": []},
    ],
)
def test_a_wrong_signature_is_refused(altered: dict[str, Any]) -> None:
    with pytest.raises(BadSignature):
        is_signed_by("SKEY", CLAIM, **altered)
    with pytest.raises(BadSignature):
        is_signed_by("SKEY", dataclasses.replace(CLAIM, date="2026-11-28"), **SENT)


def test_values_other_than_texts_are_signed_as_javascript_writes_them() -> None:
    """JSON.stringify and trim: white space, escapes, a lone surrogate; signed by @cloudbase/signature-nodejs 2.2.0."""
    claim = Claim(
        "SID", "2026-11-29", 1795937967, ("action", "data", "limit"), ("content-type", "host"),
        "620059edd1e49cef4216d26fb5417aba1db8b231f4e040a174020b8892425540",
    )  # fmt: skip
    body = {
        "action": " \ufeffdatabase.x\n",
        "data": ['a\u2028\x7f\x1f"\\/', "\ud800", "\U0001f600"],
        "limit": 5,
        "empty": "",
    }
    headers = {"host": "h", "content-type": "application/json"}
    assert is_signed_by("k", claim, host="h", path="/", query="a=1", headers=headers, body=body)


@given(st.text(max_size=300), st.text(max_size=20))
def test_any_header_is_a_claim_or_refused_with_a_sentence(authorization: str, timestamp: str) -> None:
    try:
        assert isinstance(read_claim(authorization, timestamp), Claim)
    except BadSignature as bad:
        assert str(bad).endswith(".")


@given(st.integers(-1000, 1000))
def test_clocks_may_differ_by_five_minutes_at_most(seconds: int) -> None:
    now = datetime(2026, 11, 29, tzinfo=UTC).timestamp()
    claim = dataclasses.replace(CLAIM, timestamp=int(now) + seconds)
    if abs(seconds) <= 300:
        check_time(claim, now)
    else:
        with pytest.raises(BadSignature, match="clock"):
            check_time(claim, now)
