"""The description of the API, made from the models that check what comes in."""
