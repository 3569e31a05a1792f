"""Calls as CloudBase's server SDKs send them, from Python: where a test needs no Node."""

from __future__ import annotations

import itertools
import json
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp

from supervisor.security.cloudbase_keys import secret_id, secret_key
from tests.support.houses.web_server import SECRET, Web
from web.doors.cloudbase.ejson import encode
from web.doors.cloudbase.signature import Claim, signature_of

_calls = itertools.count(1)
PATH = "/tcb/admin"
NAME = "functions"


class CloudBase:
    """A client with a key of this server's.  body, headers: of the last call, to be sent again or altered."""

    def __init__(self, http: aiohttp.ClientSession, web: Web, *, secret: str = SECRET) -> None:
        self._http, self._web, self._secret = http, web, secret

    async def call(self, action: str, collection: str = "task_queue", /, **members: Any) -> dict[str, Any]:
        """The answer's JSON."""
        body = {
            "collectionName": collection,
            **members,
            "action": f"database.{action}",
            "envName": "",
            "wxCloudApiToken": "",
        }
        return await self.send(body, *self.signed(body))

    async def send(self, body: Any, headers: dict[str, str], query: str) -> dict[str, Any]:
        """The answer's JSON; its status is 200, whatever it says."""
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        url = f"{self._web.url}{PATH}?{query}"
        async with self._http.post(url, data=data, headers=headers) as response:
            assert response.status == 200, await response.text()
            told: dict[str, Any] = await response.json()
            return told

    def signed(self, body: dict[str, Any], *, at: float | None = None) -> tuple[dict[str, str], str]:
        """The headers and the query of a call.  at: seconds since 1970."""
        timestamp = int(time.time() if at is None else at)
        query = f"env=&seqId={next(_calls)}"
        host = self._web.url.removeprefix("http://")
        headers = {"content-type": "application/json", "host": host, "x-client-timestamp": str(timestamp)}
        claim = Claim(
            secret_id(NAME),
            datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d"),
            timestamp,
            tuple(sorted(name.lower() for name, value in body.items() if value not in ("", None))),
            tuple(headers),
            "",
        )
        key = secret_key(self._secret, claim.secret_id)
        signature = signature_of(key, claim, host=host, path=PATH, query=query, headers=headers, body=body)
        authorization = (
            f"TC3-HMAC-SHA256 Credential={claim.secret_id}/{claim.date}/tcb/tc3_request, "
            f"SignedParams={';'.join(claim.params)}, SignedHeaders={';'.join(claim.headers)}, Signature={signature}"
        )
        return {**headers, "Authorization": authorization, "X-Timestamp": str(timestamp)}, query

    async def add(self, **document: Any) -> dict[str, Any]:
        return await self.call("insertDocument", data=[ejson(document)])

    async def where(self, collection: str = "task_queue", /, **query: Any) -> list[dict[str, Any]]:
        """The documents, as plain JSON values."""
        found = await self.call("getDocument", collection, query=ejson(query), queryType="WHERE", limit=100)
        return [json.loads(each) for each in found["data"]["list"]]

    async def update(self, query: dict[str, Any], **changes: Any) -> dict[str, Any]:
        return await self.call(
            "modifyDocument",
            query=ejson(query),
            data=ejson({"$set": changes}),
            queryType="WHERE",
            multi=True,
            merge=True,
            upsert=False,
        )

    async def remove(self, collection: str = "works", /, **query: Any) -> dict[str, Any]:
        return await self.call(
            "removeDocument", collection, query=ejson(query), queryType="WHERE", multi=True
        )


def ejson(value: Any) -> str:
    """A value as the SDKs write it."""
    return json.dumps(encode(value), ensure_ascii=False, separators=(",", ":"))


def order(user: str = "o-1", **more: Any) -> dict[str, Any]:
    """A document of task_queue as cloud functions add it."""
    return {
        "user_openid": user,
        "type": "photography",
        "status": "pending",
        "params": {
            "images": ["https://example.org/a.jpg"],
            "sceneId": "sunset",
            "count": 2,
            "parameters": {},
        },
        "created_at": datetime.now(UTC),
        **more,
    }
