"""What the SQL of all folders shares: rows, JSON, the order of locks."""
