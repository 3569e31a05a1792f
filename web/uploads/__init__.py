"""Uploads made plain, and the limit of bytes that each user may upload at once."""
