"""Addresses that came as data: which may be asked, and how a file is fetched from one."""
