"""Which tasks are meant: conditions of searches, and filters of actions on many.  Pure."""
