"""Signatures and allowed addresses of outgoing webhooks."""

from __future__ import annotations

import base64
import binascii

from pydantic import SecretStr, field_validator

from config.settings_group import Group

PREFIX = "whsec_"
KEY_BYTES = (24, 64)


class Webhooks(Group):
    """secret: `whsec_…`, or several with spaces between, which all sign while receivers change to a new key; empty = a
    key derived from SECRET.  allow_private_addresses: for receivers in the own network; it also allows plain http.
    """

    secret: SecretStr | None = None
    allow_private_addresses: bool = False

    @field_validator("secret")
    @classmethod
    def _be_keys(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and not _are_keys(secret.get_secret_value()):
            raise ValueError(
                f"DARKROOM_WEBHOOKS__SECRET may be {PREFIX} and the base64 of {KEY_BYTES[0]} to {KEY_BYTES[1]} random "
                "bytes, or several of these with spaces between; leave it empty to have one made."
            )
        return secret


def _are_keys(text: str) -> bool:
    keys = text.split()
    return bool(keys) and all(_is_key(key) for key in keys)


def _is_key(text: str) -> bool:
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        return False
    return text.startswith(PREFIX) and KEY_BYTES[0] <= len(key) <= KEY_BYTES[1]
