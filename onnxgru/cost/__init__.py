"""What a program costs: bytes, operations, and what a search minimises."""
