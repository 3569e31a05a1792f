"""Rules of outgoing webhooks: when, which next, what they say, and how they are signed."""
