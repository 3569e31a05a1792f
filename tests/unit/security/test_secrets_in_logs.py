"""Log lines replace every configured secret and its derived forms by stars, in any spelling."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.load_settings import load_settings
from config.settings import Settings
from supervisor.security.secret import read_or_make_secret
from supervisor.telemetry.secret_filter import STARS, forms_of, known_secrets, secret_filter
from supervisor.webhooks.signing_keys import webhook_keys

PLACES = {
    "SECRET": "the secret + of / this = house?1",
    "SECRET_BEFORE": "the secret + that / was & before!2",
    "TOKEN": "a-token-of-the-command-line-3",
    "WECHAT__APP_SECRET": "0123456789abcdef-app-4",
    "S3__SECRET_ACCESS_KEY": "s3/secret+key=5",
    "WEBHOOKS__SECRET": "whsec_" + base64.b64encode(bytes(range(32))).decode(),
    "PROVIDERS__mine__SECRETS__KEY": 'sk-"quoted"\\and-6',
    "PROVIDERS__mine__SECRETS__OTHER": "schl\u00fcssel-\u4f60\u597d-7",
}
PASSWORDS = {
    "DATABASE_URL": "postgresql://me:pass%2Fword%408@db.example/x",
    "BROKER_URL": "redis://:broker-word-9@broker.example",
}
UNPACKED = {"pass/word@8", "broker-word-9"}
OTHERS = {
    "CONFIG": "", "PROVIDERS__mine__KIND": "http", "WECHAT__APP_ID": "wx1", "S3__ACCESS_KEY_ID": "id",
}  # fmt: skip

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in an address": lambda text: quote(text, safe=""),
    "in a form": quote_plus,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for addresses": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "hex": lambda text: text.encode().hex(),
    "JSON": json.dumps,
    "Python": repr,
    "bytes in Python": lambda text: repr(text.encode()) if text.isascii() else text,
    "Basic, behind a user": lambda text: "Basic " + base64.b64encode(f"me:{text}".encode()).decode(),
    "Basic, before a password": lambda text: "Basic " + base64.b64encode(f"{text}:".encode()).decode(),
    "inside a longer base64": lambda text: base64.b64encode(f"user/{text}/more of it".encode()).decode(),
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    environ = {"DATA_DIR": str(tmp_path), **OTHERS, **PLACES, **PASSWORDS}
    return load_settings({f"DARKROOM_{name}": value for name, value in environ.items()})


def without_ends(text: str) -> str:
    """What of base64 belongs to the secret alone: its first and last letters hold bits of what stands beside it."""
    return text.strip("=")[3:-3]


@pytest.mark.parametrize("form", FORMS)
def test_every_secret_is_stars_in_every_form(settings: Settings, form: str) -> None:
    hide = secret_filter(settings)
    for secret in {*PLACES.values(), *UNPACKED}:
        written = FORMS[form](secret)
        hidden = hide(f"before {written} after")
        assert hidden.startswith("before ") and hidden.endswith(" after") and STARS in hidden, (
            secret,
            hidden,
        )
        kept = hidden.replace(STARS, "")
        for piece in (written, secret):
            middle = without_ends(piece) if "ase64" in form or "Basic" in form else piece
            assert middle not in kept, (secret, hidden)


def test_no_setting_that_is_a_secret_is_forgotten(settings: Settings) -> None:
    assert {*PLACES.values(), *UNPACKED} <= known_secrets(settings)


def test_derived_forms_of_a_secret_are_hidden_too(settings: Settings, tmp_path: Path) -> None:
    derived = settings.model_copy(update={"webhooks": Settings().webhooks})
    hide = secret_filter(derived)
    keys = webhook_keys(derived)
    assert len(keys) == 2
    for key in keys:
        assert key.removeprefix("whsec_") not in hide(f"signed with {key}")
    token = jwt.encode({"sub": "o-1"}, PLACES["SECRET"], algorithm="HS256")
    for part in token.split(".")[1:]:
        assert part not in hide(f"sent {token} to it")


def test_a_generated_secret_is_hidden_like_a_configured_one(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    made = read_or_make_secret(settings)
    assert made not in secret_filter(settings)(f"it is {made}.")


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer tell-nobody",
        "authorization: Key tell-nobody",
        "{'Authorization': 'Token tell-nobody', 'x': 1}",
        '{"authorization":"tell-nobody"}',
        "(b'Authorization', b'Basic tell-nobody')",
        "Proxy-Authorization: Negotiate tell-nobody",
        "X-Api-Key: tell-nobody",
        "'x-api-key': 'tell-nobody'",
        "Cookie: darkroom-8000=tell-nobody",
        "Set-Cookie: darkroom-8000=tell-nobody; HttpOnly",
        "GET /start?key=tell-nobody",
        "GET /v1/works/feed?ticket=tell-nobody&x=1",
        "POST /v1/callbacks/tell-nobody",
    ],
)
def test_an_unconfigured_credential_is_hidden_by_its_form(line: str) -> None:
    assert "tell-nobody" not in secret_filter(Settings())(line)


@pytest.mark.parametrize(
    "line",
    [
        "the key of the basics is key=uploads/a.jpg",
        "Basic checks passed",
        "no authorization was given",
        "task 01K of o-1",
    ],
)
def test_ordinary_words_stay(line: str) -> None:
    assert secret_filter(Settings())(line) == line


@given(st.text(min_size=6, max_size=40), st.text(max_size=9), st.text(max_size=9))
def test_no_form_of_a_secret_is_shorter_than_what_stands_alone_for_it(
    secret: str, before: str, after: str
) -> None:
    encoded = base64.b64encode((before + secret + after).encode("utf-8", "surrogatepass")).decode()
    assert any(form in encoded for form in forms_of(secret) if len(form) >= 4)


def test_a_line_of_a_library_passes_the_filter_too(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    from supervisor.telemetry.logs import _Formatter

    record = logging.LogRecord("x", logging.INFO, "f", 1, "sent %r", ({"k": PLACES["TOKEN"]},), None)
    assert PLACES["TOKEN"] not in _Formatter(settings, [], colors=False).format(record)
