"""What operators see and do, in the database."""
