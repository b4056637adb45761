"""Graph passes, one a file: from any GRU model to the annotated and the integer graph."""
