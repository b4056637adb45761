"""One normal form for every model: `normalize` runs the passes of this room in their order.

After them, a recurrence is a recurrent node of ONNX, or a canonical node where it was written out.
"""
