"""The integer graph: from primitives to terms with proved ranges, and from them to nodes.

`primitives` is the back end, `terms` is what it makes, `affine` and `encode` put terms into
standard operators, `merge` computes operators side by side, and `record` writes the nodes.
"""
