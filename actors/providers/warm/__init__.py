"""Models that stay loaded: custom classes, and the studio, in child processes that are kept between jobs.

Only `model` and `child_program` run in a child, and only they may import heavy libraries.
"""
