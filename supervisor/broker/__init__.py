"""The broker: the server that `darkroom up` brings along, its address, and the lists of claims in it."""
