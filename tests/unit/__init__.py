"""Pure rules, without a database or a process."""
