"""What every other part reads: errors, integer types, fixed point, cells, scheme, data, metrics."""
