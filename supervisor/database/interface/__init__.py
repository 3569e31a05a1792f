"""The interface of both databases: transactions, dialects, wake-ups."""
