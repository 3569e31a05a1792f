"""What Prometheus may know: the catalogue of names, the collectors behind them, and their text."""
