"""Settings: one frozen value, checked once, handed down.  The lowest package: it imports none of the others."""
