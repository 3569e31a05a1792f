"""Uploads and the children that decode them."""
