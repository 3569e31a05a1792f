"""Which adapters of AI services there are, opened by the name of their settings."""
