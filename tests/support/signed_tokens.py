"""Tokens that a test signs itself."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt

from tests.support.houses.web_server import SECRET


def _segment(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def signed(claims: dict[str, Any]) -> str:
    """A token of these claims, whatever they are: PyJWT itself would not make all of them."""
    token = ".".join((_segment({"alg": "HS256", "typ": "JWT"}), _segment(claims)))
    key = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = base64.urlsafe_b64encode(key.sign(token.encode(), SECRET.encode())).rstrip(b"=").decode()
    return f"{token}.{signature}"
