"""Metrics for Prometheus: the catalogue of names, their collectors, and their text."""
