"""The persons in a picture and their places: models, masks, poses."""
