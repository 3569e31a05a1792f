"""The HTTP part: parses, calls the store, answers; and tells every open feed what has changed."""
