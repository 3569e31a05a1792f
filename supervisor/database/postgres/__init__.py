"""PostgreSQL: connections, pool, exchanges, transactions of known outcome, wake-ups."""
