"""Uploads made plain, and how many bytes each user may have under way."""
