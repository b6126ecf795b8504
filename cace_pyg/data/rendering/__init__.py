"""Draws the pedestrians of the built-in data set: their looks, their poses, and what hides them."""
