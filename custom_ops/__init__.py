"""The integer operators, one kind a file, and the back ends of their primitives."""
