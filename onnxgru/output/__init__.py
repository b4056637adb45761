"""The output folder: what is written, and what is done with it later."""
