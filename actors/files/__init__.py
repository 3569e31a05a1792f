"""Files of an attempt: its scratch folder."""
