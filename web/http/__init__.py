"""What every request passes: bodies, authentication, problems, answers."""
