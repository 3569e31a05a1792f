"""OpenAI's images API, and servers that speak it.

`service` reads the settings, `events` and `errors` judge the answers (pure), `provider` is the adapter.
"""
