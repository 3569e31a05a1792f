"""The JavaScript client and pages that use it, through the faults of real networks."""
