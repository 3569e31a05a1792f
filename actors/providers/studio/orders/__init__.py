"""What one request to the studio asks for, and what it hands over."""
