"""Graph passes, one per file: from any GRU model to the annotated and the integer graph."""

FORMS = ("scan", "step", "unrolled")
"""Forms of a recurrence, `onnxgru.passes.recurrence.Form`."""

RANGES = ("plain", "saturating", "aligned")
"""How `onnxgru.passes.lower.Lowering` chooses ranges."""

ANNOTATIONS = ("qcdq", "qonnx")
"""What quantisers of the annotated graph are made of."""
