"""Who is in a picture and where: models, masks, poses."""
