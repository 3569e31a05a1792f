"""Signed tokens (JWT, HS256): who a caller is, and two small permissions that are nothing but a signature.

A *user token* has no audience, so anybody who holds the secret may mint one with any JWT library (`sub`, `role`,
`exp`).  A *feed ticket* and a *callback token* each name an audience of their own: none of the three is accepted in
the place of another.  Nothing is stored of a token: by itself it is refused only because it is altered, expired or
meant for something else.  What was taken back stands in the database (`store/revocations`), by its `Proof`.

Whoever made a token may have a clock that differs from ours.  Every time in every kind of token is therefore judged
with the same leeway.  While the secret is being changed there are two: the one signs, and what either has signed is
accepted.
"""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import jwt

from supervisor.core.ids import ulid_of
from supervisor.security.token_proof import Proof

Role = Literal["user", "service", "operator"]
ROLES: tuple[Role, ...] = ("user", "service", "operator")

TICKET_AUDIENCE = "darkroom:feed"
CALLBACK_AUDIENCE = "darkroom:callback"
TICKET_FIRST_USE_SECONDS = 60
TICKET_LIFE_SECONDS = 3600
LEEWAY_SECONDS = 5
MOST_ASKERS = 3  # a service's token asks for a user's, which asks for a ticket

_ALGORITHM = "HS256"
_LAST_SECOND = 253_402_300_799  # of the year 9999
_USER = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]{1,128}")
_REFERENCE = re.compile(r"[\x21-\x7e]{1,256}")

# A weak secret is refused where settings are checked; PyJWT would warn of bytes.
warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)


class BadToken(Exception):
    """The token proves nothing.  str() is a sentence that may be shown to whoever sent it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks.

    expires_at: seconds since 1970 after which this is no longer proven, the leeway included; None for the demo user.
    proofs: by which this can be taken back; none for the demo user.
    """

    user: str
    role: Role
    expires_at: float | None = None
    proofs: tuple[Proof, ...] = ()


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave to open one user's feed.  Seconds since 1970; expires_at includes the leeway.

    proofs: its own, and of what asked for it.
    """

    user: str
    role: Role
    issued_at: float
    expires_at: float
    proofs: tuple[Proof, ...] = ()

    def is_for_first_use(self, now: float) -> bool:
        """Whether the ticket may still open a stream; later it only resumes the stream that it has opened."""
        return now - self.issued_at <= TICKET_FIRST_USE_SECONDS + LEEWAY_SECONDS


@dataclass(frozen=True, slots=True)
class Callback:
    """Leave to report on one submission to an AI service.

    reference: of our evidence of it; it holds the task, the charge, the lease and the part."""

    reference: str


def is_user_name(text: str) -> bool:
    """Whether a string may name a user: 1-128 characters, no control characters, no lone surrogates."""
    return _USER.fullmatch(text) is not None


def make_user_token(
    secret: str,
    user: str,
    role: Role = "user",
    *,
    ttl_seconds: float,
    asked_by: Sequence[Proof] = (),
    now: float | None = None,
) -> str:
    """A token that says its bearer is `user` for so long.  Raises ValueError for what can't be a user or role.

    asked_by: the proofs of the token that asks for it; when one of those is revoked, this token is refused too.
    """
    if not is_user_name(user):
        raise ValueError("a user is named by 1-128 characters without control characters")
    if role not in ROLES:
        raise ValueError(f"a role is one of {', '.join(ROLES)}")
    issued = time.time() if now is None else now
    expires = int(issued + ttl_seconds)
    return _sign(
        secret,
        {
            "sub": user,
            "role": role,
            "iat": _milliseconds(issued),  # a revocation must tell old from new within a second
            "exp": expires,
            "jti": ulid_of(max(0, expires)),  # its time is the token's end: a revocation knows when it may go
            **_by(asked_by),
        },
    )


def read_user_token(secret: str, token: str, *, before: str | None = None) -> Identity:
    """Who the token says its bearer is; without a role, an ordinary user.  Raises BadToken.

    before: another secret whose signature is good as well.
    """
    claims = _verify(secret, before, token, require=["sub", "exp"])
    expires_at = _time_of(claims, "exp") + LEEWAY_SECONDS
    return Identity(_user_of(claims), _role_of(claims), expires_at, _proofs_of(claims))


def make_feed_ticket(
    secret: str,
    user: str,
    role: Role = "user",
    *,
    asked_by: Sequence[Proof] = (),
    now: float | None = None,
) -> str:
    """A ticket for `?ticket=`: opens a stream within a minute, then reopens it for up to an hour.

    asked_by: the proofs of the token that asks for it, with which the ticket is taken back too.
    """
    issued = time.time() if now is None else now
    claims = {
        "sub": user,
        "role": role,
        "iat": _milliseconds(issued),
        "exp": int(issued) + TICKET_LIFE_SECONDS,
    }
    return _sign(secret, claims | _by(asked_by) | {"aud": TICKET_AUDIENCE})


def read_feed_ticket(secret: str, ticket: str, *, before: str | None = None) -> Ticket:
    """What the ticket allows.  Raises BadToken."""
    claims = _verify(secret, before, ticket, audience=TICKET_AUDIENCE, require=["sub", "iat", "exp"])
    return Ticket(
        _user_of(claims),
        _role_of(claims),
        _time_of(claims, "iat"),
        _time_of(claims, "exp") + LEEWAY_SECONDS,
        _proofs_of(claims),
    )


def make_callback_token(secret: str, callback: Callback) -> str:
    """A token for `POST /v1/callbacks/{token}`.  It has no end of its own: it is over when its job is."""
    return _sign(secret, {"aud": CALLBACK_AUDIENCE, "job": callback.reference})


def read_callback_token(secret: str, token: str, *, before: str | None = None) -> Callback:
    """Which submission the token is bound to.  Raises BadToken."""
    claims = _verify(secret, before, token, audience=CALLBACK_AUDIENCE, require=["job"])
    if not isinstance(claims["job"], str) or not _REFERENCE.fullmatch(claims["job"]):
        raise BadToken("This callback address is not one of ours.")
    return Callback(claims["job"])


def _milliseconds(seconds: float) -> float:
    """Cut off, not rounded: a token is never dated later than it was made."""
    return math.floor(seconds * 1000) / 1000


def _sign(secret: str, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, secret, algorithm=_ALGORITHM)


def _verify(
    secret: str, before: str | None, token: str, *, require: list[str], audience: str | None = None
) -> dict[str, Any]:
    """The claims of a token that is ours, of today, and meant for this.  No other algorithm is ever accepted."""
    try:
        try:
            return _decoded(secret, token, require, audience)
        except jwt.InvalidSignatureError:
            if before is None:
                raise
            return _decoded(before, token, require, audience)
    except jwt.ExpiredSignatureError:
        raise BadToken("The token has expired.") from None
    except jwt.InvalidAudienceError:
        raise BadToken("The token is meant for something else.") from None
    except jwt.MissingRequiredClaimError as error:
        raise BadToken(f"The token has no '{error.claim}'.") from None
    except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError):
        raise BadToken("The token is not one of ours.") from None


def _decoded(secret: str, token: str, require: list[str], audience: str | None) -> dict[str, Any]:
    return jwt.decode(
        token,
        secret,
        algorithms=[_ALGORITHM],
        audience=audience,
        leeway=LEEWAY_SECONDS,
        options={"require": require},
    )


def _user_of(claims: dict[str, Any]) -> str:
    user = claims["sub"]
    if not isinstance(user, str) or not is_user_name(user):
        raise BadToken("The token's 'sub' can't name a user.")
    return user


def _role_of(claims: dict[str, Any]) -> Role:
    role = claims.get("role", "user")
    if role not in ROLES:
        raise BadToken(f"The token's 'role' must be one of {', '.join(ROLES)}.")
    return cast(Role, role)


def _time_of(claims: dict[str, Any], name: str) -> float:
    """Seconds since 1970.  JSON has numbers that are no time: of four hundred digits, for one."""
    try:
        seconds = float(claims[name])
    except (TypeError, ValueError, OverflowError):
        seconds = math.inf
    if not abs(seconds) <= _LAST_SECOND:
        raise BadToken(f"The token's '{name}' is no time.")
    return seconds


def _by(asked_by: Sequence[Proof]) -> dict[str, Any]:
    """The claim that names the proofs of whoever asked: each holds the one before it, so an older reader sees one."""
    claim: dict[str, Any] = {}
    for proof in reversed(asked_by[:MOST_ASKERS]):
        claim = {"by": {"sub": proof.subject, "iat": proof.issued_at, "jti": proof.token_id, **claim}}
    return claim


def _proofs_of(claims: dict[str, Any]) -> tuple[Proof, ...]:
    """By what a token can be taken back: its own proof, then those of whoever asked for it.  Raises BadToken."""
    proofs = [_proof_of(claims)]
    while "by" in claims and len(proofs) <= MOST_ASKERS:
        issued_at, claims = claims.get("iat"), claims["by"]
        if not isinstance(claims, dict) or "sub" not in claims:
            raise BadToken("The token is not one of ours.")
        claims = {"iat": issued_at, **claims}
        proofs.append(_proof_of(claims))
    return tuple(proofs)


def _proof_of(claims: dict[str, Any]) -> Proof:
    token_id = claims.get("jti")
    if token_id is not None and not (isinstance(token_id, str) and is_user_name(token_id)):
        raise BadToken("The token's 'jti' must be 1-128 characters without control characters.")
    issued_at = _time_of(claims, "iat") if claims.get("iat") is not None else 0.0
    return Proof(_user_of(claims), issued_at, token_id)
