"""How weights become codes: one method a module."""

METHODS = ("nearest", "gptq")
"""Their names; `onnxgru.rounding.methods.resolve` makes them."""
