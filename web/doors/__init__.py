"""Doors for other people's SDKs: thin translations of the one submission function."""
