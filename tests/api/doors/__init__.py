"""Interfaces for other services' SDKs."""
