"""NSGA-II over integer genomes. Knows only ``evaluate(genome) -> objectives``."""

STRATEGIES = ("explore-exploit", "plain")
"""How a search goes, `onnxgru.search.nsga.SearchSettings`."""

SMALLEST_POPULATION = 4
"""Two tournaments of two."""
