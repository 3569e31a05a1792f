"""Types with steps: the order of each step, and the lane in which a task waits for it."""
