"""Small independent models that the system is held against."""
