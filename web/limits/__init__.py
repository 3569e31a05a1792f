"""How much one user or address may ask for."""
