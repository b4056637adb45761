"""What needs torch: exporting trained modules to ONNX, and fine-tuning."""

LEARNED_SCALES = ("weights", "all", "none")
"""Scales that fine-tuning trains: those of weights, those of calibrated values too, or none."""
