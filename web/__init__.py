"""The HTTP part: parses requests, calls the store, answers, and sends changes to every open feed."""
