"""The answers of WeChat's `jscode2session`, and their consequences.  Pure.

WeChat always answers 200 with `text/plain`; the body holds the result: `openid` and `session_key`, or `errcode`
and `errmsg` (-1 busy, 40029 invalid code, 40163 used code, 40226 blocked user, 45011 too often; others concern our
own app id and secret).  The session key is dropped here: we do not need it, so we can't lose it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum


class Refusal(Enum):
    """The reason for a missing openid."""

    BAD_CODE = "bad_code"
    BLOCKED = "blocked"
    TOO_OFTEN = "too_often"
    BUSY = "busy"
    OUR_FAULT = "our_fault"
    NOT_AN_ANSWER = "not_an_answer"


@dataclass(frozen=True, slots=True)
class Refused:
    """errcode: WeChat's, if it gave one."""

    why: Refusal
    errcode: int | None = None


_BY_ERRCODE = {
    -1: Refusal.BUSY,
    40029: Refusal.BAD_CODE,
    40163: Refusal.BAD_CODE,
    40226: Refusal.BLOCKED,
    45011: Refusal.TOO_OFTEN,
}


def openid_of(status: int, body: bytes) -> str | Refused:
    """The user's openid, or the reason for a missing one."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        return Refused(Refusal.BUSY if status >= 500 else Refusal.NOT_AN_ANSWER)
    errcode = said.get("errcode", 0)
    if isinstance(errcode, int) and errcode != 0:
        return Refused(_BY_ERRCODE.get(errcode, Refusal.OUR_FAULT), errcode)
    openid = said.get("openid")
    if status != 200 or not isinstance(openid, str) or not openid:
        return Refused(Refusal.BUSY if status >= 500 else Refusal.NOT_AN_ANSWER)
    return openid
