"""Small independent models that the system is compared with."""
