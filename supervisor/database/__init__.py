"""The two databases behind one interface: transactions, wake-ups, outages."""
