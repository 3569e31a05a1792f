"""The filter that removes secrets from texts: from every line of a log, and from errors that people read.

Removed are the secrets of the settings, in every encoding, and all that looks like a credential: bearer tokens,
tickets, signatures, passwords in addresses.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

from pydantic import BaseModel, SecretStr

from config.settings import Settings, hide_password
from supervisor.security.secret import FILE_NAME as SECRET_FILE
from supervisor.webhooks.signing_keys import derived_key

STARS = "***"
_TOKENS = re.compile(
    r"(?P<keep>\b(?:ticket|sig|token|code|secret|password|start\?key)="
    r"|\bBearer\s+|\bBasic\s+(?=[\w+/-]{8})"
    # A header in any form that logs have: `Authorization: Key abc`, `'X-Api-Key': 'abc'`, `(b'Cookie', b'a=b')`.
    r"|(?i:\b(?:proxy-)?authorization|\bx-api-key|\b(?:set-)?cookie)[\"']*\s*[:=,]\s*b?[\"']?(?:[A-Za-z]+ (?=\S))?)"
    r"[^\s&\"']+"
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]*"  # any JWT
    r"|(?P<callback>/v1/callbacks/)[^\s\"'?]+"
)
# Parts, in lower case, of every pattern above.  Most lines hold none of them, and this check takes a hundredth of the
# time.
_MARKS = (
    *("ticket=", "sig=", "token=", "code=", "secret=", "password=", "start?key="),
    *("bearer ", "basic ", "authorization", "x-api-key", "cookie", "eyj", "/v1/callbacks/"),
)
_URL_SAFE = str.maketrans("+/", "-_")
_SECRET_NAMES = re.compile(r"(?i)(secret|password|authorization|api_?key|cookie|token|ticket)$")
SHORTEST_SECRET = 6  # a shorter text would star out ordinary words


def secret_filter(settings: Settings) -> Callable[[str], str]:
    """A function that removes secrets from a text: those of the settings, in every encoding, and texts that look like
    one."""
    texts = {form for secret in known_secrets(settings) for form in forms_of(secret)}
    longest_first = sorted((text for text in texts if len(text) >= SHORTEST_SECRET), key=len, reverse=True)
    known = re.compile("|".join(map(re.escape, longest_first)))

    def hide(text: str) -> str:
        for form in longest_first:  # a loop takes half the time of `any`
            if form in text:
                text = known.sub(STARS, text)
                break
        lower = text.lower()
        for mark in _MARKS:
            if mark in lower:
                text = _TOKENS.sub(lambda found: (found["keep"] or found["callback"] or "") + STARS, text)
                break
        return hide_password(text) if "://" in text or "password=" in text else text

    return hide


def known_secrets(settings: Settings) -> set[str]:
    """Every secret value of the settings, the keys derived from them, and passwords in addresses."""
    found = set(_secrets_in(settings))
    for address in (
        settings.database_url,
        settings.database_listen_url,
        settings.broker_url,
        settings.storage_url,
        settings.url,
    ):
        with contextlib.suppress(ValueError):
            found |= {unquote(each) for each in (urlsplit(address).password,) if each}
    if settings.secret is None:  # made once, and kept in a file
        with contextlib.suppress(OSError, ValueError):
            found.add((settings.data_dir / SECRET_FILE).read_text(encoding="ascii").strip())
    signing = [
        each.get_secret_value() for each in (settings.secret, settings.secret_before) if each is not None
    ]
    found |= {derived_key(each) for each in signing}
    return {part for each in found for part in (each, *each.split()) if part}


def forms_of(secret: str) -> set[str]:
    """The encodings of one secret: plain, in an address, in JSON, in Python, in hex, in base64.

    In base64 it may begin anywhere in a longer text, as in "Basic": only the characters that do not depend on the
    neighbours are searched for.
    """
    data = secret.encode("utf-8", "surrogatepass")
    forms = {
        secret,
        quote(secret, safe="", errors="replace"),
        quote_plus(secret, errors="replace"),
        data.hex(),
    }
    forms |= {json.dumps(secret)[1:-1], repr(secret)[1:-1], data.hex().upper()}
    for before in range(3):
        whole = base64.b64encode(bytes(before) + data)
        first, last = -(-before * 8 // 6), len(whole.rstrip(b"=")) - (1 if (before + len(data)) % 3 else 0)
        inner = whole[first:last].decode()
        forms |= {inner, inner.translate(_URL_SAFE)}
    return forms


def _secrets_in(value: Any) -> Iterator[str]:
    """Every SecretStr in a table of settings, at any depth, so that new settings need no change here."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for each in value.__dict__.values():
            yield from _secrets_in(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _secrets_in(each)


def hide_named_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Star out every value with a name such as `token` or `api_key`."""
    for name in event:
        if _names_a_secret(name):
            event[name] = STARS
    return event


@functools.lru_cache(maxsize=1024)
def _names_a_secret(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None
