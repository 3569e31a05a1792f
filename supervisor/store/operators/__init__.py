"""What operators see, and their actions."""
