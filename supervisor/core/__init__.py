"""Rules of the product as pure functions and values: no I/O, `now` and chance are parameters."""
