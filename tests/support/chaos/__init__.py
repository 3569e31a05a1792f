"""What a chaos does and orders: pure functions of its seed, and the settings of its house."""
