"""The door for fal's SDKs: queue, run, stream, uploads, and the proxy for browsers."""
