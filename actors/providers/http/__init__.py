"""Any AI service that answers HTTP requests, described by settings alone: at once, by polling, or by calling back.

`service` reads the settings into one value, `remote_jobs` judges what it says about a job (pure), `provider` is the
adapter.
"""
