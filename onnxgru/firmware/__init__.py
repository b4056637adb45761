"""C99 for microcontrollers: the layers of an integer program as source files."""
