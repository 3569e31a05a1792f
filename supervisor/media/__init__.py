"""Files that are not pictures: their kinds, how they are stored and shown."""
