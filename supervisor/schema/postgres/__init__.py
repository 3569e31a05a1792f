"""The schema on PostgreSQL: guards, triggers, functions, and the upgrade."""
