"""Clients that tests drive, and their requests."""
