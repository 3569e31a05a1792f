"""The dispatcher: which of several is active, and the cost of an idle one."""
