"""Who works and what is wrong, judged by rules alone: liveness, succession, troubles, diagnosis."""
