"""Doors for other people's SDKs."""
