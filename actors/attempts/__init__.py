"""One attempt at a task, from its inputs to the record of its end."""
