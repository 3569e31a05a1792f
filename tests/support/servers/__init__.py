"""Real servers for tests, each in a folder of its own, stopped with the test."""
