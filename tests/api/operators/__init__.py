"""The operators' addresses over HTTP."""
