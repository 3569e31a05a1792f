"""Accounts and the append-only ledger."""
