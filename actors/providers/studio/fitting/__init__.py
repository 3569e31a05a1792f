"""Garments on persons: cutting out, draping, warping."""
