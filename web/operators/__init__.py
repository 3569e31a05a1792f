"""The operators' addresses, `/v1/ops/…`: what the page `/ops` asks for, and what it does."""
