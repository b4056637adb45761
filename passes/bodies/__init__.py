"""From the body of a ``Scan`` or ``Loop`` to a cell's table.

`terms` holds the equations, `reading` takes them from nodes, `iteration` knows what ``Scan`` and
``Loop`` do with a body, `tables` makes a cell of equations, and `canonical` writes the node that
the normal form has for it (`onnxgru.passes.graph.description` says what that node holds).
"""
