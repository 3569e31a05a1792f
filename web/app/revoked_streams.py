"""Ends open streams some seconds after their token was revoked."""

from __future__ import annotations

import asyncio
import logging

from supervisor.core.errors import Fault
from supervisor.database.interface.errors import DatabaseError
from supervisor.security.token_proof import is_revoked
from supervisor.store.limits import revocations
from web.handling.context import Context

log = logging.getLogger("darkroom.web")

LOOK_SECONDS = 5.0  # three checks within the 15 s after which a stream must have ended


async def end_revoked_streams(context: Context) -> None:
    """Check every few seconds until cancelled.  During a database outage, the next check tries again."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            await look_once(context)
        except (Fault, DatabaseError) as error:
            log.warning("whether streams' tokens were revoked can't be read: %s", error)


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
