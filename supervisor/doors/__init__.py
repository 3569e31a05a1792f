"""What other services' SDKs are told of a task, in answers as in webhooks: pure translations."""
