"""The kinds of integer operators, one a file, and what they share.

`table` names them; `single`, `requantize`, `words` and `planes` are what several of them stand on.
"""
