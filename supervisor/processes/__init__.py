"""Processes: starting them, watching them, ending them with their parent."""
