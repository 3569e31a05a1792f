"""Rules about the system's health: liveness, succession, troubles, diagnosis."""
