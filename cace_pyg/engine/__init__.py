"""The loops: extraction, training, two-stage evaluation, checkpoints, reports."""
