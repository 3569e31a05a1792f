"""Proofs and secrets."""
