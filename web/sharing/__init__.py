"""Works outside their user's console: links for others, and all of them in one file."""
