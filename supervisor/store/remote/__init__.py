"""Evidence of paid requests, and what services report on them."""
