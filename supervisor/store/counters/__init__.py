"""Numbers that are added up in the transaction that moves them."""
