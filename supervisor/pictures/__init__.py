"""Pictures made safe and plain, in child processes that can be killed."""
