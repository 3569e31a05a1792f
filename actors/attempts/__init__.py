"""One attempt at a task, from its inputs to its record."""
