"""Other people's ways to compare two pictures, trained on the same frozen clues as the pair stage."""
