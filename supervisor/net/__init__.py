"""HTTP sessions, names of hosts, and listening sockets."""
