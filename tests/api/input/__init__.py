"""Whatever is sent: a clear answer, and nothing of it is stored."""
