"""Producers that send orders during the faults.

By SQL an order has its own id, so one that may have been stored can simply be sent again.  By HTTP it carries an
`Idempotency-Key`; where an answer was lost, the producer first checks whether its task exists.
"""

from __future__ import annotations

import http.client
import json
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tests.support.chaos.orders import Order

HTTP_SECONDS = 8.0
PAUSE_SECONDS = 0.25


class Producer(threading.Thread):
    """Hands in its orders at their times.  images: {user: an uploaded image's id}."""

    def __init__(
        self,
        orders: Sequence[Order],
        *,
        database: Path,
        address: str,
        tokens: dict[str, str],
        images: dict[str, str],
        began: float,
    ) -> None:
        super().__init__(daemon=True)
        self._orders, self._database, self._address = orders, database, address
        self._tokens, self._images, self._began = tokens, images, began
        self.faults: list[str] = []
        self.tried_again = 0
        self.giving_up = threading.Event()

    def run(self) -> None:
        connection = sqlite3.connect(self._database, timeout=15)
        try:
            for order in self._orders:
                if self.giving_up.wait(max(0.0, self._began + order.at - time.monotonic())):
                    return
                (self._by_http if order.by_http else self._by_sql)(connection, order)
        except Exception as error:  # noqa: BLE001 - whatever stops a producer is a finding
            self.faults.append(f"a producer broke: {error!r}")
        finally:
            connection.close()

    def _params(self, order: Order) -> dict[str, object]:
        return {"images": [self._images[order.user]], "prompt": order.name, "count": order.count}

    def _by_sql(self, connection: sqlite3.Connection, order: Order) -> None:
        row = (order.name, order.user, order.type, json.dumps(self._params(order)), order.priority)
        while not self.giving_up.is_set():
            try:
                connection.execute(
                    "INSERT INTO task_queue (id, user_openid, type, params, priority) VALUES (?, ?, ?, ?, ?)",
                    row,
                )
                connection.commit()
                return
            except sqlite3.OperationalError:  # locked by somebody who is frozen
                connection.rollback()
                self._note_another_try()
            except sqlite3.IntegrityError as error:
                connection.rollback()
                if "exists already" in str(error):
                    return
                self.faults.append(f"{order.name} was refused: {error}")
                return

    def _by_http(self, connection: sqlite3.Connection, order: Order) -> None:
        body = json.dumps({"type": order.type, "params": self._params(order)}).encode()
        headers = {
            "Authorization": f"Bearer {self._tokens[order.user]}",
            "Content-Type": "application/json",
            "Idempotency-Key": order.name,
        }
        while not self.giving_up.is_set():
            request = urllib.request.Request(f"{self._address}/v1/tasks", body, headers)
            try:
                with urllib.request.urlopen(request, timeout=HTTP_SECONDS) as answer:
                    answer.read()
                    return
            except urllib.error.HTTPError as error:
                if error.code not in (429, 503):
                    self.faults.append(f"{order.name} was answered {error.code}: {error.read()[:200]!r}")
                    return
                self._note_another_try()
            except (OSError, http.client.HTTPException):
                self._note_another_try()
            if _is_there(connection, order):
                return

    def _note_another_try(self) -> None:
        self.tried_again += 1
        self.giving_up.wait(PAUSE_SECONDS)


def _is_there(connection: sqlite3.Connection, order: Order) -> bool:
    row = connection.execute(
        "SELECT 1 FROM task_queue WHERE user_openid = ? AND json_extract(params, '$.prompt') = ?",
        (order.user, order.name),
    ).fetchone()
    return row is not None


def share_out(orders: Sequence[Order], producers: int) -> list[list[Order]]:
    """The orders for each producer: each has one door only, and its orders stay in time."""
    by_sql = [order for order in orders if not order.by_http]
    by_http = [order for order in orders if order.by_http]
    half = max(1, producers // 2)
    return [by_sql[n::half] for n in range(half)] + [by_http[n::half] for n in range(half)]
