"""Adapters of AI services."""
