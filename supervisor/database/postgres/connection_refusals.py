"""The meaning of PostgreSQL's refusal of a connection, in a sentence that says what to do.  Pure; never with a
password."""

from __future__ import annotations

import re

CHECK = "check DARKROOM_DATABASE_URL"

# (text of libpq or of the server, its meaning, whether the set-up is wrong: then waiting does not help)
_ANSWERS = (
    ("password authentication failed", f"it refuses the user or the password; {CHECK}", True),
    ("no password supplied", f"it wants a password; {CHECK}", True),
    (r'role ".*" does not exist', f"it knows no such user; {CHECK}", True),
    (
        r'database ".*" does not exist',
        f"it has no database of this name; create it with createdb, or {CHECK}",
        True,
    ),
    ("no pg_hba.conf entry", "it does not let this user in from this host; mend its pg_hba.conf", True),
    ("certificate verify failed", f"its certificate is not trusted; {CHECK} (sslrootcert)", True),
    ("starting up|in recovery mode|shutting down", "it is starting or stopping; wait", False),
    (
        "too many clients|remaining connection slots",
        "it has no connection left; raise its max_connections, or lower DARKROOM_DATABASE_CONNECTIONS",
        False,
    ),
    ("translate host name|resolve host|name resolution", f"its host name is not known; {CHECK}", False),
    (
        "Connection refused|No such file",
        f"nobody listens there; start the server, or {CHECK}",
        False,
    ),
    ("lock timeout|deadlock detected", "other programs hold its tables; wait", False),
    ("timeout|timed out", f"it does not answer in time; {CHECK} and the network", False),
)


def in_words(error: BaseException) -> str:
    """The fault, as the end of a sentence."""
    words, _ = _meaning(error)
    return words


def is_wrong_setting(error: BaseException) -> bool:
    """Whether a setting is wrong, so that waiting does not help."""
    return _meaning(error)[1]


def _meaning(error: BaseException) -> tuple[str, bool]:
    said = str(error).strip()
    for mark, words, is_setting in _ANSWERS:
        if re.search(mark, said):
            return words, is_setting
    return (said.splitlines()[0] if said else "no reason is given"), False
