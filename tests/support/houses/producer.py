"""A producer process: `python -m tests.support.houses.producer sql|http …` makes tasks as fast as it can."""

from __future__ import annotations

import json
import sqlite3
import sys
import urllib.request

import psycopg


def by_sql(database: str, user: str, image: str, tasks: int) -> None:
    """One plain connection, one commit a row, no setting but the busy time-out every program sets."""
    insert = "INSERT INTO task_queue (user_openid, type, params) VALUES ({0}, 'instant', {0})"
    row = (user, json.dumps({"images": [image]}))
    if database.startswith("sqlite:///"):
        connection = sqlite3.connect(database.removeprefix("sqlite:///"), timeout=15)
        for _ in range(tasks):
            connection.execute(insert.format("?"), row)
            connection.commit()
    else:
        with psycopg.connect(database, autocommit=True) as program:
            for _ in range(tasks):
                program.execute(insert.format("%s").encode(), row)


def by_http(url: str, token: str, image: str, tasks: int) -> None:
    """One request a task."""
    body = json.dumps({"type": "instant", "params": {"images": [image]}}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    for _ in range(tasks):
        with urllib.request.urlopen(
            urllib.request.Request(f"{url}/v1/tasks", body, headers), timeout=60
        ) as answer:
            assert answer.status == 202


if __name__ == "__main__":
    door, where, who, image_id, count = sys.argv[1:]
    {"sql": by_sql, "http": by_http}[door](where, who, image_id, int(count))
