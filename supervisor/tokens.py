"""Signed tokens (JWT, HS256): who a caller is, and two small permissions that are nothing but a signature.

A *user token* has no audience, so anybody who holds the secret may mint one with any JWT library (`sub`, `role`,
`exp`).  A *feed ticket* and a *callback token* each name an audience of their own: none of the three is accepted in
the place of another.  Nothing is stored: a token is refused only because it is altered, expired or meant for
something else.

Whoever made a token may have a clock that differs from ours.  Every time in every kind of token is therefore judged
with the same leeway.
"""

from __future__ import annotations

import re
import time
import warnings
from dataclasses import dataclass
from typing import Any, Literal, cast

import jwt

Role = Literal["user", "service", "operator"]
ROLES: tuple[Role, ...] = ("user", "service", "operator")

TICKET_AUDIENCE = "darkroom:feed"
CALLBACK_AUDIENCE = "darkroom:callback"
TICKET_FIRST_USE_SECONDS = 60
TICKET_LIFE_SECONDS = 3600
LEEWAY_SECONDS = 5

_ALGORITHM = "HS256"
_USER = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]{1,128}")

# A short secret is the owner's choice and is refused, or not, where settings are checked; PyJWT would repeat it.
warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)


class BadToken(Exception):
    """The token proves nothing.  str() is a sentence that may be shown to whoever sent it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks.

    expires_at: seconds since 1970 after which this is no longer proven, the leeway included; None for the demo user.
    """

    user: str
    role: Role
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave to open one user's feed.  Seconds since 1970; expires_at includes the leeway."""

    user: str
    role: Role
    issued_at: float
    expires_at: float

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
    secret: str, user: str, role: Role = "user", *, ttl_seconds: float, now: float | None = None
) -> str:
    """A token that says its bearer is `user` for so long.  Raises ValueError for what can't be a user or role."""
    if not is_user_name(user):
        raise ValueError("a user is named by 1-128 characters without control characters")
    if role not in ROLES:
        raise ValueError(f"a role is one of {', '.join(ROLES)}")
    issued = time.time() if now is None else now
    return _sign(secret, {"sub": user, "role": role, "iat": int(issued), "exp": int(issued + ttl_seconds)})


def read_user_token(secret: str, token: str) -> Identity:
    """Who the token says its bearer is; without a role, an ordinary user.  Raises BadToken."""
    claims = _verify(secret, token, require=["sub", "exp"])
    return Identity(_user_of(claims), _role_of(claims), float(claims["exp"]) + LEEWAY_SECONDS)


def make_feed_ticket(secret: str, user: str, role: Role = "user", *, now: float | None = None) -> str:
    """A ticket for `?ticket=`: opens a stream within a minute, then reopens it for up to an hour."""
    issued = time.time() if now is None else now
    claims = {"sub": user, "role": role, "iat": int(issued), "exp": int(issued) + TICKET_LIFE_SECONDS}
    return _sign(secret, claims | {"aud": TICKET_AUDIENCE})


def read_feed_ticket(secret: str, ticket: str) -> Ticket:
    """What the ticket allows.  Raises BadToken."""
    claims = _verify(secret, ticket, audience=TICKET_AUDIENCE, require=["sub", "iat", "exp"])
    expires_at = float(claims["exp"]) + LEEWAY_SECONDS
    return Ticket(_user_of(claims), _role_of(claims), float(claims["iat"]), expires_at)


def make_callback_token(secret: str, callback: Callback) -> str:
    """A token for `POST /v1/callbacks/{token}`.  It has no end of its own: it is over when its job is."""
    return _sign(secret, {"aud": CALLBACK_AUDIENCE, "job": callback.reference})


def read_callback_token(secret: str, token: str) -> Callback:
    """Which submission the token is bound to.  Raises BadToken."""
    claims = _verify(secret, token, audience=CALLBACK_AUDIENCE, require=["job"])
    if not isinstance(claims["job"], str):
        raise BadToken("This callback address is not one of ours.")
    return Callback(claims["job"])


def _sign(secret: str, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, secret, algorithm=_ALGORITHM)


def _verify(secret: str, token: str, *, require: list[str], audience: str | None = None) -> dict[str, Any]:
    """The claims of a token that is ours, of today, and meant for this.  No other algorithm is ever accepted."""
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=[_ALGORITHM],
            audience=audience,
            leeway=LEEWAY_SECONDS,
            options={"require": require},
        )
    except jwt.ExpiredSignatureError:
        raise BadToken("The token has expired.") from None
    except jwt.InvalidAudienceError:
        raise BadToken("The token is meant for something else.") from None
    except jwt.MissingRequiredClaimError as error:
        raise BadToken(f"The token has no '{error.claim}'.") from None
    except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError):
        raise BadToken("The token is not one of ours.") from None
    return claims


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
