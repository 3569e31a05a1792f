"""Types with steps: they advance, are paid, die and go on."""
