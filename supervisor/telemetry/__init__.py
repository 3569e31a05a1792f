"""Logs and traces of every part."""
