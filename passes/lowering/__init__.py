"""From layers, calibration and scheme to the frozen integer program."""
