"""The copy of a SQLite database into an empty PostgreSQL one."""
