"""Models that stay loaded: classes of your own, and the studio, in child processes that are kept warm.

Only `model` and `child_program` run in a child, and only they may import what is heavy.
"""
