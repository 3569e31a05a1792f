"""The description of the API, made from the models that check requests."""
