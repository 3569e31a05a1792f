"""The broker: the embedded server of `darkroom up`, its address, and the lists of claims in it."""
