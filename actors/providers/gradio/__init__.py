"""Gradio apps: one order is one event of the app's queue, followed on an open stream.

`service` reads the settings, `events` judges the stream and `layout` the app's description (pure);
`provider` is the adapter.
"""
