"""Evidence of paid requests, and the reports of services on them."""
