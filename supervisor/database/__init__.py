"""The two databases as the rest of the program sees them: transactions, wake-ups, outages."""
