"""How the built-in data set draws its pedestrians: who they are, how they stand, what hides them."""
