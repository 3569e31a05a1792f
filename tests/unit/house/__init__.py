"""The repository itself: imports, documents, deployment files."""
