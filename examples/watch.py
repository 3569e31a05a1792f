"""Watch one's works from Python: `pip install httpx-sse`, then `python watch.py URL TOKEN`.

httpx-sse reads one stream; going on after it has broken is ours to do: the last event's id, and a pause.
"""

import json
import random
import sys
import time

import httpx
from httpx_sse import SSEError, connect_sse


def changes(url: str, token: str):
    """(event name, its data) for ever: the whole list first, then every change, none missing, none twice."""
    place, pause = "", 1.0
    beats = httpx.Timeout(10, read=45)  # one comes every 15 s
    with httpx.Client(base_url=url, timeout=beats) as http:
        while True:
            headers = {"Authorization": f"Bearer {token}"} | ({"Last-Event-ID": place} if place else {})
            try:
                with connect_sse(http, "GET", "/v1/works/feed", headers=headers) as source:
                    source.response.raise_for_status()
                    for event in source.iter_sse():
                        pause = event.retry / 1000 if event.retry else pause
                        place = event.id or place
                        if event.event in ("init", "reset", "change"):
                            yield event.event, json.loads(event.data)
            except (httpx.TransportError, SSEError):
                pass  # the network, or a restart: what came meanwhile is sent when we ask again
            except httpx.HTTPStatusError as refused:
                if refused.response.status_code not in (429, 502, 503, 504):
                    raise
            time.sleep(pause * random.uniform(0.5, 1.5))


if __name__ == "__main__":
    for name, data in changes(sys.argv[1], sys.argv[2]):
        works = data["docs"] if name != "change" else [change["doc"] for change in data["docChanges"]]
        for work in works:
            print(name, work["_id"], work["status"], f"{work['progress']} %", work["stage"], flush=True)
