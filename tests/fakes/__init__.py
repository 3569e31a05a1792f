"""Third-party AI services, as small real servers on loopback.

Each speaks its service's wire format: in `tests/providers/test_official_clients.py` the official client and our adapter
both use it.
"""
