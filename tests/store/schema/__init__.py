"""Migrations, guards, and the copy from one database to the other."""
