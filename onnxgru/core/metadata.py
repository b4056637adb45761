"""Keys of the metadata that onnxgru writes into graphs; see ``docs/formats.md``."""

VERSION = "onnxgru.version"
SOURCE = "onnxgru.source_sha256"
SCHEME = "onnxgru.scheme"
SIZES = "onnxgru.sizes"
BATCH_AXES = "onnxgru.batch_axes"
HANDED_ON = "onnxgru.handed_on"
OUTPUTS = "onnxgru.outputs"
"""Key of a model: names of the outputs that the metric judged."""

BITS = "onnxgru.bits"
"""Key of a quantiser or an initializer: its width, where that differs from the container's."""

DOMAIN = "onnxgru"
"""Domain of the functions that compute a recurrence, and of operators in their place."""
RECURRENCE = "recurrence"
"""Attribute of a node of such a function: the name of the recurrence that it computes."""
