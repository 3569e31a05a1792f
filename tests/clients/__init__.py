"""Clients of our own, against real servers."""
