"""Dramatiq's Redis broker, made to outlive its server's absence."""
