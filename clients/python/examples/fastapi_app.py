"""A shop on FastAPI: it orders a picture from a photo, and hears of the end by a webhook.

    DARKROOM_URL=https://darkroom.example.com DARKROOM_TOKEN=… DARKROOM_WEBHOOK_KEY=whsec_… \
    SHOP_URL=https://shop.example.com SHOP_DATABASE=shop.db uvicorn fastapi_app:app
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from darkroom_client import AsyncDarkroom, DarkroomError, Refused, WebhookRefused, verify_webhook
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from orders_database import OrdersDatabase

TYPE = os.environ.get("DARKROOM_TYPE", "photography")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.database = OrdersDatabase(os.environ["SHOP_DATABASE"])
    async with AsyncDarkroom(os.environ["DARKROOM_URL"], os.environ["DARKROOM_TOKEN"]) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/orders/{number}", status_code=202)
async def order(number: str, request: Request) -> dict[str, str]:
    """The body is a photo.  The number of the order is its key: however often it comes, it is ordered once."""
    photo = await request.body()
    try:
        made = await app.state.client.order(
            TYPE, images=photo, key=f"shop-{number}", webhook=os.environ["SHOP_URL"] + "/hooks/darkroom"
        )
    except Refused as refused:
        raise HTTPException(refused.status, str(refused)) from None
    except DarkroomError as error:
        raise HTTPException(503, str(error)) from None
    await run_in_threadpool(app.state.database.note_order, number, made.task_id)
    return {"task_id": made.task_id}


@app.get("/orders/{number}")
async def show(number: str) -> dict[str, object]:
    found = await run_in_threadpool(app.state.database.order, number)
    if found is None:
        raise HTTPException(404)
    return dict(found)


@app.post("/hooks/darkroom", status_code=204)
async def hear(request: Request) -> None:
    try:
        message = verify_webhook(os.environ["DARKROOM_WEBHOOK_KEY"], request.headers, await request.body())
    except WebhookRefused as refused:
        raise HTTPException(400, str(refused)) from None
    await run_in_threadpool(app.state.database.note_end, message)
