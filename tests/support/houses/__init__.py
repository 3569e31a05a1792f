"""Whole running systems and parts of them."""
