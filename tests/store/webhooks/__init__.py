"""The outbox of webhooks."""
