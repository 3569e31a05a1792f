"""A client of the event stream that records everything: one user, reconnecting with `Last-Event-ID`.

It knows the stream from the HTML standard and docs/http-reference.md alone, and uses nothing of Darkroom's.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from typing import Any

QUIET_SECONDS = 40.0  # a comment comes every 15 s; a frozen web is silent for up to 25
PAUSE_SECONDS = 0.2


class Recorder(threading.Thread):
    """events: (seq, one entry of docChanges), in the order of arrival.  faults: what should never have been sent."""

    def __init__(self, user: str, token: str, port: int) -> None:
        super().__init__(daemon=True, name=f"recorder of {user}")
        self.user = user
        self.events: list[tuple[int, dict[str, Any]]] = []
        self.faults: list[str] = []
        self.connections = 0
        self.first_seq: int | None = None
        self.last_seq = -1
        self._token, self._port = token, port
        self._last_event_id: str | None = None
        self._ending = threading.Event()
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        while not self._ending.is_set():
            # Cut off, refused, silent for too long; AttributeError: closed by `stop` under our hands.
            with contextlib.suppress(OSError, http.client.HTTPException, AttributeError):
                self._listen()
            self._ending.wait(PAUSE_SECONDS)

    def stop(self) -> None:
        """Listen no more."""
        self._ending.set()
        if self._connection is not None:
            self._connection.close()

    def _listen(self) -> None:
        """One connection from its request to its end."""
        connection = self._connection = http.client.HTTPConnection(
            "127.0.0.1", self._port, timeout=QUIET_SECONDS
        )
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "text/event-stream"}
        if self._last_event_id is not None:
            headers["Last-Event-ID"] = self._last_event_id
        try:
            connection.request("GET", "/v1/works/feed", headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                if response.status != 503:
                    self.faults.append(f"{self.user}: the feed was answered {response.status}")
                return
            self.connections += 1
            self._read(response)
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse) -> None:
        fields: dict[str, str] = {}
        while line := response.readline():
            if not line.endswith(b"\n"):
                return  # cut off in the middle of an event, which then never happened
            text = line.rstrip(b"\r\n").decode()
            if text:
                name, _, value = text.partition(":")
                if name:
                    fields[name] = value.removeprefix(" ")
                continue
            if "data" in fields:
                self._take(fields)
                if fields.get("event") == "bye":
                    return
            fields = {}

    def _take(self, fields: dict[str, str]) -> None:
        event, data = fields.get("event", "message"), json.loads(fields["data"])
        if event == "bye":
            return
        if event == "init" and self._last_event_id is None:
            self.first_seq = self.last_seq = data["id"]
        elif event == "change" and len(data["docChanges"]) == 1:
            if data["id"] != self.last_seq + 1:
                self.faults.append(f"{self.user}: seq {data['id']} came after {self.last_seq}")
            self.last_seq = data["id"]
            self.events.append((data["id"], data["docChanges"][0]))
        else:
            self.faults.append(f"{self.user}: an unexpected `{event}` came after seq {self.last_seq}")
            return
        self._last_event_id = fields["id"]
