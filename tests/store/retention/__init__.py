"""What is forgotten with age, and the file stores."""
