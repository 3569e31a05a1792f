"""Clients that tests drive, and what they send."""
