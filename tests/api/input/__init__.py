"""Any input gets a clear answer, and bad input is not stored."""
