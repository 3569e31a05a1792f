"""Stuck tasks, the minute sweep's record, clocks that were set back, rows that the database refuses."""
