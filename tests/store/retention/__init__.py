"""Removal of old rows, and the file stores."""
