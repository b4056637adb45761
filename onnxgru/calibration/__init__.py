"""Streaming statistics of every operator's output, and the observers that choose ranges."""
