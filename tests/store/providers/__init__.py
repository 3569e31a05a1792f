"""What hosts agree on about AI services, and wake-ups."""
