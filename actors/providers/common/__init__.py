"""Shared code of adapters over HTTP: templates of requests, a client, and verdicts on answers.

`template` renders values, `requests` encodes them, `answers` judges answers, `paths` and `picture_sources` find values
in them; these are pure.  `client` sends, `collecting` turns answers into pictures, `order_values` fills in an order,
`reading` reads the tables of settings.
"""
