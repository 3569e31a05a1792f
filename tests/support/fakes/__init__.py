"""Third-party services, as their documents describe them."""
