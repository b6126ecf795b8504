"""Other methods to compare two pictures, trained on the same frozen clues as the pair stage."""
