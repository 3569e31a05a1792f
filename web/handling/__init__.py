"""What handlers share: the parts of the process, who asks, bodies, answers."""
