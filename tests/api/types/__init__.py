"""Declared task types over HTTP."""
