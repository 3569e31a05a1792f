"""Proofs: tokens, links to files, and the secret that signs them."""
