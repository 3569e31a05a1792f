"""The schema on SQLite: triggers, and the upgrade of a file."""
