"""Shared code of handlers: the context of the process, bodies, idempotency keys, answers."""
