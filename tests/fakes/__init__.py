"""AI services of others, as small real servers on loopback.

Each speaks its service's wire format as its official client understands it: `tests/providers/test_official_clients.py`
has that client use it, beside our adapter.
"""
