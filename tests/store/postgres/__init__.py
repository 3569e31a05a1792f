"""Behaviour of PostgreSQL alone."""
