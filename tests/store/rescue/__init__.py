"""Stuck tasks."""
