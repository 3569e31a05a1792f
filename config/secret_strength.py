"""Whether a text may be the secret: long, varied, and not from an example.  Pure."""

from __future__ import annotations

FEWEST_CHARACTERS = 32
FEWEST_DIFFERENT = 10

# Texts that examples have, or once had, in place of the secret: they are public.
PUBLISHED = frozenset(
    {
        "a long random text, the same on every host",
        "one long random text, the same everywhere",
        "replace this text with what `darkroom secret` prints",
    }
)

MAY_BE = (
    f"may be a random text of at least {FEWEST_CHARACTERS} characters, {FEWEST_DIFFERENT} of them different; "
    "`darkroom secret` prints one"
)


def weakness(secret: str) -> str | None:
    """What is wrong with it, as the end of a sentence that begins with "it"; None if it may be used."""
    text = secret.strip()
    if len(text) < FEWEST_CHARACTERS:
        return f"is too short ({len(text)} characters)"
    if len(set(text)) < FEWEST_DIFFERENT:
        return f"has too few different characters ({len(set(text))})"
    if text.casefold() in PUBLISHED:
        return "is the text of an example, which everybody can read"
    return None
