"""The broker, its consumers, and the claims that it carries."""
