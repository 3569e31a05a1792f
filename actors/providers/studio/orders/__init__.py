"""One request to the studio: its order and its results."""
