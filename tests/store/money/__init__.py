"""Ledger and paid requests."""
