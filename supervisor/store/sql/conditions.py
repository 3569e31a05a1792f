"""Conditions that several statements share, each written as the index that serves it has it."""

from __future__ import annotations

READY = "status = 'pending' AND ready = 1 AND dispatched_at IS NULL"
