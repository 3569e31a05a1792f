"""Whole running systems: kills, outages, upgrades."""
