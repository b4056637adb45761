"""Graph passes, one per file: from any GRU model to the annotated and the integer graph.

The rooms, in the order in which a model passes through them: `normal` (one form for every model, on
`bodies` where a recurrence is written out), `recognize` (layers of bound operators), `lowering`
(the integer program), `forms` and `emission` (the annotated and the integer graph). `graph` is what
all of them stand on.
"""

FORMS = ("scan", "step", "unrolled")
"""Forms of a recurrence, `onnxgru.passes.forms.recurrence.Form`."""

RANGES = ("plain", "saturating", "aligned")
"""How `onnxgru.passes.lowering.lower.Lowering` chooses ranges."""

ANNOTATIONS = ("qcdq", "qonnx")
"""What quantisers of the annotated graph are made of."""
