"""A worker process: its slots, claims, heartbeat and drain."""
