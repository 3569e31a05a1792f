"""The actors that messages call, and the start of a process that runs them."""
