"""The door for Replicate's SDKs: predictions, their files, their streams and webhooks."""
