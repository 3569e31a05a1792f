"""The change log and the works that users watch."""
