"""Runs whose report has no picture, unless a test asks for it."""

from helpers.without_picture import picture, pictures_left_out

__all__ = ["picture", "pictures_left_out"]
