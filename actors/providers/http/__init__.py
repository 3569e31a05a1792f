"""Any AI service over HTTP, described by settings alone: it answers at once, is polled, or calls back.

`service` reads the settings into one value, `remote_jobs` judges its answers about a job (pure), `provider` is the
adapter.
"""
