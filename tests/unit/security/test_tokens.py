"""Valid tokens, and everything that is refused as a token."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from supervisor.security.tokens import (
    BadToken,
    Callback,
    make_callback_token,
    make_feed_ticket,
    make_user_token,
    read_callback_token,
    read_feed_ticket,
    read_user_token,
)
from tests.support.houses.web_server import SECRET
from tests.support.signed_tokens import _segment, signed


def test_a_user_token_names_its_bearer_and_role() -> None:
    identity = read_user_token(SECRET, make_user_token(SECRET, "o-1", "service", ttl_seconds=60))
    assert (identity.user, identity.role) == ("o-1", "service")


def test_a_token_of_another_program_needs_only_sub_and_exp() -> None:
    token = jwt.encode({"sub": "微信-用户", "exp": time.time() + 60}, SECRET, algorithm="HS256")
    assert read_user_token(SECRET, token).role == "user"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 4_000_000_000},
        {"sub": "o-1"},
        {"sub": "o-1", "exp": 1},
        {"sub": "", "exp": 4_000_000_000},
        {"sub": "a\x00b", "exp": 4_000_000_000},
        {"sub": "x" * 129, "exp": 4_000_000_000},
        {"sub": 7, "exp": 4_000_000_000},
        {"sub": "o-1", "exp": 4_000_000_000, "role": "root"},
        {"sub": "o-1", "exp": 4_000_000_000, "role": ["operator"]},
        {"sub": "o-1", "exp": "soon"},
        {"sub": "o-1", "exp": int("9" * 400)},
        {"sub": "o-1", "exp": 1e300},
        {"sub": "o-1", "exp": 4_000_000_000, "iat": -int("9" * 400)},
        {"sub": "o-1", "exp": 4_000_000_000, "jti": 7},
        {"sub": "o-1", "exp": 4_000_000_000, "jti": "a\x00b"},
        {"sub": "o-1", "exp": 4_000_000_000, "jti": "\ud800"},
        {"sub": "o-1", "exp": 4_000_000_000, "jti": ""},
        {"sub": "o-1", "exp": 4_000_000_000, "nbf": 3_900_000_000},
    ],
)
def test_a_token_with_missing_or_impossible_claims_proves_nothing(claims: dict[str, Any]) -> None:
    with pytest.raises(BadToken):
        read_user_token(SECRET, signed(claims))


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "HS384", "RS256"])
def test_no_other_algorithm_is_accepted(algorithm: str) -> None:
    claims = _segment({"sub": "o-1", "role": "operator", "exp": 4_000_000_000})
    with pytest.raises(BadToken):
        read_user_token(SECRET, f"{_segment({'alg': algorithm, 'typ': 'JWT'})}.{claims}.")
    if algorithm.startswith("HS"):
        with pytest.raises(BadToken):
            read_user_token(SECRET, jwt.encode({"sub": "o-1", "exp": 4e9}, SECRET, algorithm=algorithm))


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é", "\ud800", "x" * 10_000, "ey.ey.ey", "null"])
def test_rubbish_is_refused_with_a_sentence(token: str) -> None:
    with pytest.raises(BadToken, match=r"\.$"):
        read_user_token(SECRET, token)


def test_a_token_of_another_secret_or_altered_by_one_bit_is_refused() -> None:
    token = make_user_token(SECRET, "o-1", ttl_seconds=60)
    head, _, signature = token.split(".")
    other = _segment({"sub": "o-2", "role": "user", "exp": 4_000_000_000})
    for bad in (make_user_token("another " + SECRET, "o-1", ttl_seconds=60), f"{head}.{other}.{signature}"):
        with pytest.raises(BadToken):
            read_user_token(SECRET, bad)


def test_none_of_the_three_kinds_serves_as_another() -> None:
    user = make_user_token(SECRET, "o-1", ttl_seconds=60)
    ticket = make_feed_ticket(SECRET, "o-1")
    callback = make_callback_token(SECRET, Callback("t.1.2.0"))
    for reader, wrong in [
        (read_user_token, (ticket, callback)),
        (read_feed_ticket, (user, callback)),
        (read_callback_token, (user, ticket)),
    ]:
        for token in wrong:
            with pytest.raises(BadToken):
                reader(SECRET, token)


def test_a_ticket_is_for_first_use_within_a_minute_and_good_for_an_hour() -> None:
    now = time.time()
    fresh = read_feed_ticket(SECRET, make_feed_ticket(SECRET, "o-1", now=now - 50))
    old = read_feed_ticket(SECRET, make_feed_ticket(SECRET, "o-1", now=now - 3500))
    assert fresh.is_for_first_use(now) and not old.is_for_first_use(now)
    with pytest.raises(BadToken, match="expired"):
        read_feed_ticket(SECRET, make_feed_ticket(SECRET, "o-1", now=now - 3700))


READERS: list[tuple[Callable[[str, str], Any], dict[str, Any]]] = [
    (read_user_token, {"sub": "o-1"}),
    (read_feed_ticket, {"sub": "o-1", "aud": "darkroom:feed"}),
    (read_callback_token, {"job": "01J.2.5.0", "aud": "darkroom:callback"}),
]


@pytest.mark.parametrize(("read", "claims"), READERS, ids=["user token", "feed ticket", "callback token"])
@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
def test_every_time_in_every_token_is_judged_with_the_same_leeway(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[str, str], Any], claims: dict[str, Any], claim: str
) -> None:
    now = 1_800_000_000

    class StandsStill(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> StandsStill:
            return cls.fromtimestamp(now, tz)

    monkeypatch.setattr("jwt.api_jwt.datetime", StandsStill)
    past = claim == "exp"  # it may lie behind us, the others may lie ahead
    for off, is_good in ((4, True), (-1000, True), (7, False), (3600, False)):
        at = {"iat": now - 1, "exp": now + 60} | {claim: now - off if past else now + off}
        token = jwt.encode(claims | at, SECRET, algorithm="HS256")
        if is_good:
            read(SECRET, token)
        else:
            with pytest.raises(BadToken):
                read(SECRET, token)


def test_a_ticket_s_first_use_has_the_same_leeway() -> None:
    now = time.time()
    ticket = read_feed_ticket(SECRET, make_feed_ticket(SECRET, "o-1", now=now - 64))
    assert ticket.is_for_first_use(int(now) - 0.5) and not ticket.is_for_first_use(now + 3)


def test_a_token_is_valid_until_the_leeway_has_passed() -> None:
    """Or a stream would end at once, again and again, that was opened in the last seconds."""
    now = int(time.time())
    user = read_user_token(SECRET, make_user_token(SECRET, "o-1", ttl_seconds=-3, now=now))
    ticket = read_feed_ticket(SECRET, make_feed_ticket(SECRET, "o-1", now=now - 3603))
    assert user.expires_at == ticket.expires_at == now + 2


def test_a_callback_token_is_bound_to_one_submission() -> None:
    job = Callback("01J.2.5.0")
    assert read_callback_token(SECRET, make_callback_token(SECRET, job)) == job
    forged = jwt.encode({"aud": "darkroom:callback", "job": ["01J", 2, 5, 0]}, SECRET, algorithm="HS256")
    with pytest.raises(BadToken):
        read_callback_token(SECRET, forged)


def test_a_user_name_has_no_control_characters() -> None:
    with pytest.raises(ValueError, match="1-128 characters"):
        make_user_token(SECRET, "a\nb", ttl_seconds=60)
    with pytest.raises(ValueError, match="a role is"):
        make_user_token(SECRET, "o-1", "root", ttl_seconds=60)  # type: ignore[arg-type]


def test_while_the_secret_is_changed_what_either_has_signed_is_good_and_no_third() -> None:
    for make, read in (
        (lambda secret: make_user_token(secret, "o-1", ttl_seconds=60), read_user_token),
        (lambda secret: make_feed_ticket(secret, "o-1"), read_feed_ticket),
        (lambda secret: make_callback_token(secret, Callback("t.1.2.0")), read_callback_token),
    ):
        old, new, third = (make(text) for text in ("old " + SECRET, SECRET, "third " + SECRET))
        for token in (old, new):
            read(SECRET, token, before="old " + SECRET)  # type: ignore[operator]
        for token, before in ((old, None), (third, "old " + SECRET)):
            with pytest.raises(BadToken):
                read(SECRET, token, before=before)  # type: ignore[operator]


def test_tokens_have_ids_of_their_own_and_are_never_dated_ahead() -> None:
    claims = [
        jwt.decode(make_user_token(SECRET, "o-1", ttl_seconds=60, now=now), SECRET, algorithms=["HS256"])
        for now in (time.time() - 0.00001, time.time())
    ]
    assert len({each["jti"] for each in claims}) == 2
    assert all(each["iat"] <= time.time() for each in claims)
