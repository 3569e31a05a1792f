"""What adapters of AI services over HTTP share: templates of requests, a client, and what to make of answers.

`template` renders values, `requests` encodes them, `answers` judges what comes back, `paths` and `picture_sources` say
where things are in it; these are pure.  `client` sends, `collecting` makes pictures of answers, `order_values` fills in
an order, `reading` reads the tables of settings.
"""
