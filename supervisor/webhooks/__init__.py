"""Rules of outgoing webhooks: schedule, turns, content and signatures."""
