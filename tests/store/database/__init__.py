"""The databases behind one interface: group commit, and their arithmetic of time."""
