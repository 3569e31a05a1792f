"""The workers' image children."""
