"""HTTP alone, without our data: bodies, forms, problems, addresses of clients."""
