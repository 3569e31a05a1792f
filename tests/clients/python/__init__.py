"""The client for Python, against real servers."""
