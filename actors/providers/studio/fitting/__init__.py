"""Garments on persons: cutting out, draping, light."""
