"""The event stream and its clients."""
