"""Settings for front ends and the proxies in front of web: WeChat's login, origins, addresses."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from config.settings_group import Group

_ORIGIN = re.compile(r"https?://[^/?#@\s]+")


class WeChat(Group):
    """The mini-program for `POST /v1/auth/wechat`, which exchanges its login codes; empty = switched off."""

    app_id: str = ""
    app_secret: SecretStr | None = None
    url: str = "https://api.weixin.qq.com"
    token_seconds: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] = 86400
    timeout_seconds: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 5

    @model_validator(mode="after")
    def _both_or_none(self) -> WeChat:
        if bool(self.app_id) != bool(self.app_secret and self.app_secret.get_secret_value()):
            missing, given = ("APP_SECRET", "APP_ID") if self.app_id else ("APP_ID", "APP_SECRET")
            raise ValueError(
                f"DARKROOM_WECHAT__{missing} is not set, but must be given beside DARKROOM_WECHAT__{given}: "
                "both stand on the mini-program's page at mp.weixin.qq.com."
            )
        return self

    @property
    def is_open(self) -> bool:
        """Whether login codes can be exchanged."""
        return bool(self.app_id)


def listed(given: Any) -> Any:
    """A list, or its items in one text, separated by commas."""
    if isinstance(given, str):
        return tuple(item.strip() for item in given.split(",") if item.strip())
    return given


def _origins(given: tuple[str, ...]) -> tuple[str, ...]:
    for origin in given:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"DARKROOM_ALLOWED_ORIGINS holds {origin!r}, but may hold origins such as https://app.example.com, "
                "or *, separated by commas."
            )
    return tuple(origin.lower() for origin in given)


def _networks(given: tuple[str, ...]) -> tuple[str, ...]:
    for network in given:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ValueError(
                f"DARKROOM_TRUSTED_PROXIES holds {network!r}, but may hold addresses and networks such as "
                "10.0.0.0/8, separated by commas."
            ) from None
    return given


def _translation_prefixes(given: tuple[str, ...]) -> tuple[str, ...]:
    for prefix in given:
        try:
            network = ipaddress.IPv6Network(prefix)
        except ValueError:
            network = None
        if network is None or network.prefixlen not in TRANSLATION_PREFIX_LENGTHS:
            raise ValueError(
                f"DARKROOM_TRANSLATION_PREFIXES holds {prefix!r}, but may hold IPv6 prefixes such as 2001:db8:64::/96, "
                f"of {', '.join(map(str, TRANSLATION_PREFIX_LENGTHS))} bits, separated by commas."
            )
    return given


TRANSLATION_PREFIX_LENGTHS = (32, 40, 48, 56, 64, 96)  # RFC 6052, section 2.2
Origins = Annotated[tuple[str, ...], BeforeValidator(listed), AfterValidator(_origins)]
Networks = Annotated[tuple[str, ...], BeforeValidator(listed), AfterValidator(_networks)]
TranslationPrefixes = Annotated[
    tuple[str, ...], BeforeValidator(listed), AfterValidator(_translation_prefixes)
]
