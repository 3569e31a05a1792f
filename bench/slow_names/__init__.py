"""Name lookups as slow as with a name server that does not answer."""

SLOW_NAMES = "slow.test"
GIVES_UP_AFTER_SECONDS = 10.0  # libc asks again and again, and meanwhile holds the thread that asked
