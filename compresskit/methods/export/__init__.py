"""Export: a checkpoint as a graph that other programs run."""
