"""The meaning of a broker's error, in a sentence that says what to do.  Pure; the sentence holds no address or
password."""

from __future__ import annotations

from redis import exceptions

CHECK = "check DARKROOM_BROKER_URL"

NO_RIGHTS = (
    "its user may not run our commands; allow it the keys dramatiq* and darkroom:*, and every command that is not"
    " dangerous"
)

CLUSTER = "it is a node of a cluster; name a server whose cluster mode is off"

# The beginning, or a part, of the server's own message.
_ANSWERS = (
    ("WRONGPASS", f"it refuses the user or the password; {CHECK}"),
    ("invalid username-password", f"it refuses the user or the password; {CHECK}"),
    ("invalid password", f"it refuses the password; {CHECK}"),
    (
        "Authentication required",
        "it wants a password; give one in DARKROOM_BROKER_URL, as in redis://:password@host",
    ),
    ("NOAUTH", "it wants a password; give one in DARKROOM_BROKER_URL, as in redis://:password@host"),
    ("without any password configured", f"it knows no password, and one is given; {CHECK}"),
    ("NOPERM", NO_RIGHTS),
    ("No permissions to access", NO_RIGHTS),
    ("has no permissions", NO_RIGHTS),  # the client removes the first word of the server's message
    ("ACL failure in script", NO_RIGHTS),
    ("DB index is out of range", f"it has no database of this number; {CHECK}"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is not trusted; add ?ssl_ca_certs=/path/of/ca.pem to DARKROOM_BROKER_URL",
    ),
    ("Hostname mismatch", f"its certificate is for another name; {CHECK}"),
    ("loading the dataset", "it is still reading its data; wait"),
    ("OOM command not allowed", "its memory is full; give it more, and maxmemory-policy noeviction"),
    (
        "unknown command",
        f"it does not know a command that we need, as a Sentinel or an old server does; {CHECK}",
    ),
    ("CROSSSLOT", CLUSTER),
    ("hash to the same slot", CLUSTER),
    ("MOVED", CLUSTER),
    ("read only replica", "it is a replica, which takes no messages; name the primary"),
    ("protected mode", "it is in protected mode; give it a password"),
)


def in_words(error: BaseException) -> str:
    """The fault, as the end of a sentence."""
    said = str(error)
    for mark, words in _ANSWERS:
        if mark.lower() in said.lower():
            return words
    match error:
        case exceptions.AuthenticationError():  # in a pipeline the error has no text
            return f"it wants a password, or refuses the one that is given; {CHECK}"
        case (
            exceptions.TimeoutError() | TimeoutError()
        ):  # a server without TLS behaves the same when TLS is used
            return f"it does not answer in time; {CHECK}, that the server runs, and speaks TLS if that says rediss"
        case exceptions.ConnectionError() | OSError():
            return f"it can't be reached; {CHECK} and that the server runs"
        case _:
            return said
