"""What handlers share: the context of the process, who asks, bodies, answers."""
