"""Files fetched from addresses that came as data: public hosts only."""
