"""What the SQL of all folders shares: conditions, rows, JSON, the order of locks, rows that are refused."""
