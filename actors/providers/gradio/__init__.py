"""Gradio apps: one order is one event of the app's queue, told on a held stream.

`service` reads the settings, `events` judges what the stream says and `layout` what the app says of itself (pure);
`provider` is the adapter.
"""
