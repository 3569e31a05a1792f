"""Portraits: backdrops, framing, light."""
