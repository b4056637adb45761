"""What every other part reads: errors, files, integers, fixed point, cells, scheme, program."""
