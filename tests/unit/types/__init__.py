"""Declared task types: their settings, parameters and prices."""
