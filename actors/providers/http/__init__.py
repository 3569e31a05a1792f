"""Any AI service that answers HTTP requests, described by settings alone.

`template` renders the request, `requests` encodes it, `answers` judges what comes back, `picture_sources` says where a
picture is; these are pure.  `service` reads the settings into one value, `client` sends, `provider` is the adapter.
"""
