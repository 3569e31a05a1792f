"""Disks and networks of a host that a test makes and breaks."""
