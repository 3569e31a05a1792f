"""Parts of the schema that both databases make from one text."""
