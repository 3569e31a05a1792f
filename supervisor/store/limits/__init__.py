"""What holds tasks back: services' limits, pauses, tokens that were taken back."""
