"""The signature of CloudBase's server SDKs, TC3-HMAC-SHA256 with signed parameters, recomputed.  Pure.

The signed text, in this order and separated by line feeds: method in lower case, `//host/path`, query, the signed
headers (`name:value`, lower case) and an empty line, their names, and the SHA-256 of the signed members of the body,
each as `&name=value\\r\\n` (names in lower case; values other than text as JSON; white space trimmed; empty ones left
out).  The key is a chain of HMACs over date and service.  Source: @cloudbase/signature-nodejs 2.2.0, lib/signer.js; a
test recomputes signatures of the SDKs themselves.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

CLOCKS_MAY_DIFFER_SECONDS = 300

_ALGORITHM = "TC3-HMAC-SHA256"
_SCOPE = "tcb/tc3_request"
_AUTHORIZATION = re.compile(
    rf"{_ALGORITHM} Credential=(?P<id>[A-Za-z0-9_.-]{{1,100}})/(?P<date>\d{{4}}-\d\d-\d\d)/{_SCOPE}, ?"
    r"SignedParams=(?P<params>[a-z0-9_;]{1,1000}), ?SignedHeaders=(?P<headers>[a-z0-9_;-]{1,1000}), ?"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)
_MEMBER = re.compile(r"[A-Za-z0-9_]{1,64}")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# The characters that JavaScript's trim() removes; Python's strip() removes others.
_WHITE = (
    "\t\n\v\f\r \xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)


class BadSignature(Exception):
    """The signature is invalid.  str() is a sentence that may be shown to its sender."""


@dataclass(frozen=True)
class Claim:
    """A request's description of its own signature.  params, headers: the names signed, in lower case, in their
    order."""

    secret_id: str
    date: str
    timestamp: int
    params: tuple[str, ...]
    headers: tuple[str, ...]
    signature: str


def read_claim(authorization: str, timestamp: str) -> Claim:
    """The content of the headers `Authorization` and `X-Timestamp`.  Raises BadSignature."""
    found = _AUTHORIZATION.fullmatch(authorization)
    if found is None:
        raise BadSignature(
            f"Authorization must be as CloudBase's server SDKs send it: {_ALGORITHM} with SignedParams."
        )
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise BadSignature("X-Timestamp must be the seconds since 1970 at which the request was signed.")
    params, headers = (tuple(found[name].split(";")) for name in ("params", "headers"))
    return Claim(found["id"], found["date"], int(timestamp), params, headers, found["signature"])


def check_time(claim: Claim, now: float) -> None:
    """now: seconds since 1970.  Raises BadSignature if the two clocks differ too much."""
    if abs(now - claim.timestamp) > CLOCKS_MAY_DIFFER_SECONDS:
        raise BadSignature(
            f"The request was signed at {_as_time(claim.timestamp)} and the clock here says {_as_time(now)}: more than "
            f"{CLOCKS_MAY_DIFFER_SECONDS} s apart; set the clock of whichever is wrong."
        )


def is_signed_by(
    secret_key: str, claim: Claim, *, host: str, path: str, query: str, headers: Mapping[str, str], body: Any
) -> bool:
    """Whether this key has signed exactly this request; compared in constant time.  Other parameters: see
    `signature_of`."""
    expected = signature_of(secret_key, claim, host=host, path=path, query=query, headers=headers, body=body)
    return hmac.compare_digest(expected, claim.signature)


def signature_of(
    secret_key: str, claim: Claim, *, host: str, path: str, query: str, headers: Mapping[str, str], body: Any
) -> str:
    """The signature that this key makes, in hexadecimal.

    host, path, query: as they were sent; headers: by lower-case names; body: its JSON value.
    Raises BadSignature for an impossible signature: an unsigned member, or a missing header.
    """
    if _as_time(claim.timestamp)[:10] != claim.date:
        raise BadSignature("The day of the signature is not that of its X-Timestamp.")
    if "host" not in claim.headers or any(name not in headers for name in claim.headers):
        raise BadSignature("Host must be signed, and each header that is signed must be sent.")
    shown = "".join(f"{name}:{_header(name, headers[name])}\n" for name in claim.headers)
    canonical = "\n".join(
        ("post", f"//{host}{path}", query, shown, ";".join(claim.headers), _hash_of_params(claim, body))
    )
    to_sign = f"{_ALGORITHM}\n{claim.timestamp}\n{claim.date}/{_SCOPE}\n{_sha256(canonical)}"
    key = f"TC3{secret_key}".encode()
    for part in (claim.date, *_SCOPE.split("/")):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode("utf-8", "surrogatepass"), "sha256").hex()


def _hash_of_params(claim: Claim, body: Any) -> str:
    if not isinstance(body, dict):
        raise BadSignature("The body must be a JSON object.")
    values: dict[str, str] = {}
    for name, value in body.items():
        if not _MEMBER.fullmatch(name) or name.lower() in values:
            raise BadSignature("A member of the body has a name that can't be signed.")
        values[name.lower()] = _param(value)
    unsigned = sorted(name for name, value in values.items() if value and name not in claim.params)
    if unsigned:
        raise BadSignature(f"The member {unsigned[0]} of the body is not signed.")
    digest = hashlib.sha256()
    for name in claim.params:
        if not values.get(name):
            raise BadSignature(f"The member {name} is signed and not in the body.")
        digest.update(f"&{name}={values[name]}\r\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _param(value: Any) -> str:
    """The signed form of a member's value: JSON.stringify and trim of JavaScript."""
    if isinstance(value, str):
        return value.strip(_WHITE)
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _header(name: str, value: str) -> str:
    return value if name == "content-type" else value.strip(_WHITE).lower()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _as_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
