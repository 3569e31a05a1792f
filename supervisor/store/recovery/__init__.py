"""Stuck tasks, the record of the minute sweep, and clocks that were set back."""
