"""The forms of a recurrence: ``Scan``, one step per call, or unrolled.

`form` names them, `recurrence` writes them, and the others hold what a form asks of the graph:
states that are handed on, first states, and the sizes of a call.
"""
