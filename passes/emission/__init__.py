"""From layers and programs to graphs: the annotated graph and the integer graph.

`decompose` and `annotate` write the one, `emit` writes the other. The other passes change how an
integer graph is written, and never its codes.
"""
