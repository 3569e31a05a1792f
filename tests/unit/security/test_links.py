"""A link to a file is valid unchanged and until its end; every other link is refused."""

from __future__ import annotations

import time
from urllib.parse import parse_qs, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from supervisor.security.file_links import LinkSigner

SIGNER = LinkSigner("a secret", 86400)


def _taken_apart(link: str) -> tuple[str, str, str]:
    parts = urlsplit(link)
    query = parse_qs(parts.query)
    return parts.path.removeprefix("/files/"), query["exp"][0], query["sig"][0]


def test_a_link_holds_until_it_expires() -> None:
    key, expires, signature = _taken_apart(SIGNER.link("uploads/a.jpg", now=1_000_000))
    assert key == "uploads/a.jpg"
    assert SIGNER.holds(key, expires, signature, now=int(expires) - 1)
    assert not SIGNER.holds(key, expires, signature, now=int(expires))


@given(st.integers(0, 4_000_000_000), st.integers(1, 400_000))
def test_a_link_lives_at_most_its_lifetime_and_nearly_all_of_it(now: int, lifetime: int) -> None:
    _, expires, _ = _taken_apart(LinkSigner("a secret", lifetime).link("k", now=now))
    lives = int(expires) - now
    assert lifetime * 23 / 24 - 2 <= lives <= lifetime


def test_links_made_shortly_after_each_other_are_the_same_text() -> None:
    assert SIGNER.link("k", now=7_200_000) == SIGNER.link("k", now=7_200_030)


def test_an_altered_key_expiry_or_signature_does_not_hold() -> None:
    key, expires, signature = _taken_apart(SIGNER.link("uploads/a.jpg", now=1_000_000))
    for altered in [
        ("uploads/b.jpg", expires, signature),
        (key, str(int(expires) + 1), signature),
        (key, "0" + expires, signature),
        (key, expires + " ", signature),
        (key, "9" * 40, signature),
        (key, "١٢٣", signature),
        (key, "-1", signature),
        (key, "", ""),
        (key, expires, signature[:-1]),
        (key, expires, signature + "A"),
        (key, expires, signature.swapcase()),
        (key, expires, "é" * 24),
        (key, expires, "\ud800"),
        ("\ud800", expires, signature),
    ]:
        assert not SIGNER.holds(*altered, now=1_000_000), altered


def test_another_secret_signs_other_links() -> None:
    assert not LinkSigner("b secret", 86400).holds(*_taken_apart(SIGNER.link("k", now=0)), now=0)


def test_links_of_the_secret_before_are_good_while_it_is_named() -> None:
    old, now = LinkSigner("the secret before", 86400), time.time()
    both = LinkSigner("a secret", 86400, before="the secret before")
    assert both.holds(*_taken_apart(old.link("k", now=now)), now=now)
    assert both.holds(*_taken_apart(SIGNER.link("k", now=now)), now=now)
    assert both.link("k", now=now) == SIGNER.link("k", now=now)  # the new one signs
    assert not SIGNER.holds(*_taken_apart(old.link("k", now=now)), now=now)
