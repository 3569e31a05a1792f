"""What every database offers the store: transactions, dialects, wake-ups."""
