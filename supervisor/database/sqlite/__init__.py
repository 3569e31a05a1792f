"""SQLite: one writer with group commit, wake-ups by the `-wal` file."""
