"""Interfaces for other services' SDKs: thin translations to our own functions."""
