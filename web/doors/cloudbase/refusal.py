"""The answer to a refused call: a code of CloudBase's, which makes the SDKs throw, and our sentence."""

from __future__ import annotations

from web.http.problems import Problem

# CloudBase's own codes, since wx-server-sdk distinguishes only those (its errCode); INSUFFICIENT_CREDITS is ours.
BAD_INPUT = "INVALID_PARAM"
NOT_ALLOWED = "DATABASE_PERMISSION_DENIED"
NOT_POSSIBLE = "DATABASE_REQUEST_FAILED"
NO_SUCH_COLLECTION = "DATABASE_COLLECTION_NOT_EXIST"
TOO_MUCH = "EXCEED_REQUEST_LIMIT"
NO_CREDITS = "INSUFFICIENT_CREDITS"
OUR_TROUBLE = "SYS_ERR"

_BY_STATUS = {
    401: NOT_ALLOWED,
    403: NOT_ALLOWED,
    402: NO_CREDITS,
    429: TOO_MUCH,
    404: NOT_POSSIBLE,
    409: NOT_POSSIBLE,
}


class Refused(Problem):
    """The call is refused.  detail: a sentence that says what to use; over plain HTTP it would be a 400."""

    def __init__(self, sentence: str, code: str = BAD_INPUT) -> None:
        super().__init__(400, sentence)
        self.code = code


def code_of(status: int, kind: str) -> str:
    """The code for this HTTP status.  kind: the problem's."""
    if kind == "queue_full":
        return TOO_MUCH
    return _BY_STATUS.get(status, OUR_TROUBLE if status >= 500 else BAD_INPUT)
