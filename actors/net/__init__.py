"""Addresses that came as data: which are allowed, and how a file is fetched from one."""
