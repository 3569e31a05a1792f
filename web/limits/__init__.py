"""Limits for one user or address: requests a minute, and what counts them."""
