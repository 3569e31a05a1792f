"""The broker, its consumers, and the claims that go through it."""
