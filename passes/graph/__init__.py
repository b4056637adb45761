"""What any graph holds, and passes that hold for any graph.

Values and their names, sizes, axes, the roles of recurrent nodes, files. Everything else in
`onnxgru.passes` stands on this.
"""
