"""Signed tokens (JWT, HS256): the caller's identity, and small permissions that are only a signature.

A *user token* has no audience, so every program that knows the secret may mint one with any JWT library (`sub`, `role`,
`exp`).  A *feed ticket*, a *callback token*, a *share* and an *archive* each name their own audience: none is accepted
in place of another.  Tokens are not stored: a token is refused if it is altered, expired or meant for something else.
Revoked tokens are in the database (`store/limits/revocations`), by their `Proof`.

The clock of the host that made a token may differ from ours, so every time in every kind of token is judged with the
same leeway.  While the secret is being changed there are two secrets: one signs, and signatures of both are accepted.
"""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jwt

from supervisor.core.ids import ulid_of
from supervisor.security.roles import ROLES, Role
from supervisor.security.token_proof import Proof

TICKET_AUDIENCE = "darkroom:feed"
CALLBACK_AUDIENCE = "darkroom:callback"
SHARE_AUDIENCE = "darkroom:share"
ARCHIVE_AUDIENCE = "darkroom:archive"
ARCHIVE_SECONDS = 600  # until the download has begun
TICKET_FIRST_USE_SECONDS = 60
TICKET_LIFE_SECONDS = 3600
LEEWAY_SECONDS = 5
MOST_ASKERS = 3  # a service's token requests a user's token, which requests a ticket

_ALGORITHM = "HS256"
_LAST_SECOND = 253_402_300_799  # of the year 9999
_USER = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]{1,128}")
_REFERENCE = re.compile(r"[\x21-\x7e]{1,256}")

# The settings' checks refuse a weak secret; PyJWT would only warn about its length.
warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)


class BadToken(Exception):
    """The token is invalid.  str() is a sentence that may be shown to its sender."""


class ExpiredToken(BadToken):
    """The token was valid; its time is over."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a caller.

    expires_at: the end of its validity in seconds since 1970, leeway included; None for the demo user.
    proofs: for a revocation; none for the demo user.
    """

    user: str
    role: Role
    expires_at: float | None = None
    proofs: tuple[Proof, ...] = ()


@dataclass(frozen=True, slots=True)
class Ticket:
    """The permission to open one user's feed.  Seconds since 1970; expires_at includes the leeway.

    proofs: its own, and those of the token that requested it.
    """

    user: str
    role: Role
    issued_at: float
    expires_at: float
    proofs: tuple[Proof, ...] = ()

    def is_for_first_use(self, now: float) -> bool:
        """Whether the ticket may still open a stream; later it can only resume the stream that it has opened."""
        return now - self.issued_at <= TICKET_FIRST_USE_SECONDS + LEEWAY_SECONDS


@dataclass(frozen=True, slots=True)
class Callback:
    """The permission to report on one submission to an AI service.

    reference: of its `remote_job`; it contains the task, the charge, the lease and the part.
    """

    reference: str


@dataclass(frozen=True, slots=True)
class Share:
    """The permission to see one work.  Seconds since 1970."""

    work_id: str
    issued_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Archive:
    """The permission to fetch one user's finished works in one file.  search: which of them, {member: text}.

    proofs: of the token that requested it.
    """

    user: str
    search: Mapping[str, str]
    proofs: tuple[Proof, ...] = ()


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
    """A token that identifies its bearer as `user`.  Raises ValueError for an impossible user or role.

    asked_by: the proofs of the token that requests it; if one of those is revoked, this token is refused too.
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
            # a revocation must distinguish old and new tokens of the same second
            "iat": _milliseconds(issued),
            "exp": expires,
            # its time is the token's end, so that a revocation can be deleted after it
            "jti": ulid_of(max(0, expires)),
            **_by(asked_by),
        },
    )


def read_user_token(secret: str, token: str, *, before: str | None = None) -> Identity:
    """The identity in the token; without a role, an ordinary user.  Raises BadToken.

    before: another secret with valid signatures.
    """
    claims = _verify(secret, before, token, require=["sub", "exp"])
    expires_at = _time_of(claims, "exp") + LEEWAY_SECONDS
    return Identity(_user_of(claims), _role_of(claims), expires_at, _proofs_of(claims))


def make_feed_ticket(
    secret: str, user: str, *, asked_by: Sequence[Proof] = (), now: float | None = None
) -> str:
    """A ticket for `?ticket=`: opens a stream within a minute, then reopens it for up to an hour.

    asked_by: the proofs of the token that requests it; the ticket is revoked with that token.
    """
    issued = time.time() if now is None else now
    claims = {
        "sub": user,
        "role": "user",
        "iat": _milliseconds(issued),
        "exp": int(issued) + TICKET_LIFE_SECONDS,
    }
    return _sign(secret, claims | _by(asked_by) | {"aud": TICKET_AUDIENCE})


def read_feed_ticket(secret: str, ticket: str, *, before: str | None = None) -> Ticket:
    """The permission in the ticket.  Raises BadToken."""
    claims = _verify(secret, before, ticket, audience=TICKET_AUDIENCE, require=["sub", "iat", "exp"])
    return Ticket(
        _user_of(claims),
        _role_of(claims),
        _time_of(claims, "iat"),
        _time_of(claims, "exp") + LEEWAY_SECONDS,
        _proofs_of(claims),
    )


def make_share_token(secret: str, work_id: str, *, ttl_seconds: float, now: float | None = None) -> str:
    """A token that shows one work to everybody who has it.  It names no user."""
    issued = time.time() if now is None else now
    claims = {"work": work_id, "iat": _milliseconds(issued), "exp": int(issued + ttl_seconds)}
    return _sign(secret, claims | {"aud": SHARE_AUDIENCE})


def read_share_token(secret: str, token: str, *, before: str | None = None) -> Share:
    """The permission in the token.  Raises BadToken, ExpiredToken."""
    claims = _verify(secret, before, token, audience=SHARE_AUDIENCE, require=["work", "iat", "exp"])
    if not isinstance(claims["work"], str):
        raise BadToken("The token is not one of ours.")
    return Share(claims["work"], _time_of(claims, "iat"), _time_of(claims, "exp"))


def make_archive_token(
    secret: str, user: str, search: Mapping[str, str], *, asked_by: Sequence[Proof] = ()
) -> str:
    """A token for `GET /archives/{token}`, which can set no header.  It ends with the token that requests it."""
    issued = time.time()
    claims = {
        "sub": user,
        "search": dict(search),
        "iat": _milliseconds(issued),
        "exp": int(issued) + ARCHIVE_SECONDS,
    }
    return _sign(secret, claims | _by(asked_by) | {"aud": ARCHIVE_AUDIENCE})


def read_archive_token(secret: str, token: str, *, before: str | None = None) -> Archive:
    """The permission in the token.  Raises BadToken."""
    claims = _verify(
        secret, before, token, audience=ARCHIVE_AUDIENCE, require=["sub", "iat", "exp", "search"]
    )
    search = claims["search"]
    if not isinstance(search, dict) or not all(isinstance(each, str) for each in search.values()):
        raise BadToken("The token is not one of ours.")
    return Archive(_user_of(claims), search, _proofs_of(claims))


def make_callback_token(secret: str, callback: Callback) -> str:
    """A token for `POST /v1/callbacks/{token}`.  It has no expiry time: it ends with its job."""
    return _sign(secret, {"aud": CALLBACK_AUDIENCE, "job": callback.reference})


def read_callback_token(secret: str, token: str, *, before: str | None = None) -> Callback:
    """The submission that the token is bound to.  Raises BadToken."""
    claims = _verify(secret, before, token, audience=CALLBACK_AUDIENCE, require=["job"])
    if not isinstance(claims["job"], str) or not _REFERENCE.fullmatch(claims["job"]):
        raise BadToken("This callback address is not one of ours.")
    return Callback(claims["job"])


def _milliseconds(seconds: float) -> float:
    """Truncated, not rounded: a token is never dated later than it was made."""
    return math.floor(seconds * 1000) / 1000


def _sign(secret: str, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, secret, algorithm=_ALGORITHM)


def _verify(
    secret: str, before: str | None, token: str, *, require: list[str], audience: str | None = None
) -> dict[str, Any]:
    """The claims of a token with a valid signature, time and audience.  No other algorithm is accepted."""
    try:
        try:
            return _decoded(secret, token, require, audience)
        except jwt.InvalidSignatureError:
            if before is None:
                raise
            return _decoded(before, token, require, audience)
    except jwt.ExpiredSignatureError:
        raise ExpiredToken("The token has expired.") from None
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
    """Seconds since 1970.  Not every JSON number is a time: it may have four hundred digits."""
    try:
        seconds = float(claims[name])
    except (TypeError, ValueError, OverflowError):
        seconds = math.inf
    if not abs(seconds) <= _LAST_SECOND:
        raise BadToken(f"The token's '{name}' is no time.")
    return seconds


def _by(asked_by: Sequence[Proof]) -> dict[str, Any]:
    """The claim with the requester's proofs: each holds the one before it, so an older program reads one."""
    claim: dict[str, Any] = {}
    for proof in reversed(asked_by[:MOST_ASKERS]):
        claim = {"by": {"sub": proof.subject, "iat": proof.issued_at, "jti": proof.token_id, **claim}}
    return claim


def _proofs_of(claims: dict[str, Any]) -> tuple[Proof, ...]:
    """The token's proofs for a revocation: its own, then those of its requesters.  Raises BadToken."""
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
