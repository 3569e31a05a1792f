"""The dispatcher: it claims due tasks for workers and tells them."""
