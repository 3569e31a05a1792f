"""Which task runs next, on which worker, by which dispatcher."""
