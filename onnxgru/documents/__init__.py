"""Documents of an output folder, parsed at the door into values with names and types."""
