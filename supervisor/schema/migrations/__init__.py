"""The numbered migrations, in the order in which they are applied; each only adds."""
