"""AI services of kind `python` that behave as a test asks."""
