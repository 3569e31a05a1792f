"""State of AI services shared by all hosts, and wake-ups."""
