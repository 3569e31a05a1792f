"""The built-in studio."""
