"""Random requests to a real `darkroom web`: none may be answered with a 5xx, and none may silence /healthz.

`python -m tests.fuzz --seconds 600` does it on both databases; the printed seed repeats the same requests.
"""
