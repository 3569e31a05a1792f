"""The deletion of old rows, and of their files."""
