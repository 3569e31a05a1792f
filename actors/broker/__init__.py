"""Dramatiq's Redis broker, changed to survive an outage of its server."""
