"""The faults of an order of pictures, each with the `error.code` (web/openapi/schemas.py) and a sentence for the
user."""

from __future__ import annotations


class StudioFault(Exception):
    """The order can't be carried out as it is; another attempt with the same pictures would fail too."""

    code = "invalid_input"


class BadOrder(StudioFault):
    """The request itself is wrong: an unknown task or scene, a count out of range."""

    code = "bad_params"


class ImageUnusable(StudioFault):
    """A picture can't be read, is too small or too large, or shows no garment."""

    code = "image_unusable"


class NoPersonFound(StudioFault):
    """The first picture shows no person that can be recognised."""

    code = "no_person_found"
