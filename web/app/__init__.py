"""The application, its server, and its pages."""
