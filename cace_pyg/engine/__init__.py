"""The loops: extraction, training, two-stage evaluation; checkpoints and run folders."""
