"""The adapters of AI services, opened by the name of their settings."""
