"""A shop on Flask: it orders a picture from a photo, and hears of the end by a webhook.

    DARKROOM_URL=https://darkroom.example.com DARKROOM_TOKEN=… DARKROOM_WEBHOOK_KEY=whsec_… \
    SHOP_URL=https://shop.example.com SHOP_DATABASE=shop.db flask --app flask_app run
"""

from __future__ import annotations

import os

from darkroom_client import Darkroom, DarkroomError, Refused, WebhookRefused, verify_webhook
from flask import Flask, abort, request
from flask.typing import ResponseReturnValue
from orders_database import OrdersDatabase

TYPE = os.environ.get("DARKROOM_TYPE", "photography")

app = Flask(__name__)
database = OrdersDatabase(os.environ["SHOP_DATABASE"])
client = Darkroom(os.environ["DARKROOM_URL"], os.environ["DARKROOM_TOKEN"])  # for all threads


@app.post("/orders/<number>")
def order(number: str) -> ResponseReturnValue:
    """The body is a photo.  The number of the order is its key: however often it comes, it is ordered once."""
    try:
        made = client.order(
            TYPE,
            images=request.get_data(),
            key=f"shop-{number}",
            webhook=os.environ["SHOP_URL"] + "/hooks/darkroom",
        )
    except Refused as refused:
        return {"detail": str(refused)}, refused.status
    except DarkroomError as error:
        return {"detail": str(error)}, 503
    database.note_order(number, made.task_id)
    return {"task_id": made.task_id}, 202


@app.get("/orders/<number>")
def show(number: str) -> ResponseReturnValue:
    found = database.order(number)
    if found is None:
        abort(404)
    return found


@app.post("/hooks/darkroom")
def hear() -> ResponseReturnValue:
    try:
        message = verify_webhook(os.environ["DARKROOM_WEBHOOK_KEY"], request.headers, request.get_data())
    except WebhookRefused as refused:
        return {"detail": str(refused)}, 400
    database.note_end(message)
    return "", 204
