"""Shared code of handlers: the context of the process, authentication, bodies, answers."""
