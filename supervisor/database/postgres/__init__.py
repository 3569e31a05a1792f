"""PostgreSQL: connections, pool, pipeline, transactions of known outcome, wake-ups."""
