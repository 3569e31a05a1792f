"""The dispatcher: it claims due tasks for workers and sends them the claims."""
