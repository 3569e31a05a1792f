"""Limits for one user or address."""
