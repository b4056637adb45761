"""NSGA-II over integer genomes. Knows only ``evaluate(genome) -> objectives``."""
