"""Ends open streams some seconds after their token was revoked."""

from __future__ import annotations

import asyncio

from supervisor.security.token_proof import is_revoked
from supervisor.store.limits import revocations
from web.handling.context import Context

LOOK_SECONDS = 5.0  # three checks within the 15 s after which a stream must have ended


async def look_for_revoked(context: Context) -> None:
    """Check once, in a few seconds, and not before a stream is open."""
    await context.hub.some_stream()
    await asyncio.sleep(LOOK_SECONDS)
    await look_once(context)


async def look_once(context: Context) -> int:
    """End the streams with revoked tokens; how many."""
    streams = [stream for stream in context.hub.every_stream() if stream.proofs]
    if not streams:
        return 0
    proofs = {proof for stream in streams for proof in stream.proofs}
    rows = await context.database.read_async(lambda tx: revocations.concerning(tx, proofs))
    revoked = [stream for stream in streams if rows and is_revoked(rows, stream.proofs)]
    for stream in revoked:
        stream.end()
        stream.hang_up(only_if_stuck=True)  # it could not be ended politely
    return len(revoked)
