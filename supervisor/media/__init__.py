"""Files that are no pictures: what they are, how they are stored and shown."""
