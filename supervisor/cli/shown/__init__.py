"""What commands print of tasks, users and the system: lines, and live screens."""
