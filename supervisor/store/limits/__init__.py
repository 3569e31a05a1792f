"""What can stop a task: limits of services, pauses, revoked tokens."""
