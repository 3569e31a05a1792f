"""Replicate, and servers made with its cog.

`service` reads the settings, `predictions` judges answers about a prediction and `signature` verifies reports (pure);
`provider` is the adapter for Replicate, `cog` the one for a cog server, which keeps no results.
"""
