"""Retouching: a subject cut out of its picture, and a picture made larger."""
