"""Counters, raised in the transaction of the counted work."""
