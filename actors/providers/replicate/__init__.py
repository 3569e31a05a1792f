"""Replicate, and servers made with its cog.

`service` reads the settings, `predictions` judges what is said of a prediction and `signature` who says it (pure);
`provider` is the adapter for Replicate, `cog` the one for a cog server, which keeps no results to be asked for.
"""
