"""What is forgotten with age, and the files that go with it."""
