"""Open event streams, and the one reader of the change log that feeds them."""
