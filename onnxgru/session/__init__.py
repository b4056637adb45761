"""A model with its data, in the order in which it becomes an integer graph.

`model` (what is quantised), `statistics` (what its operators compute on calibration data),
`yardstick` (what programs are judged by), `quantizer` (from schemes to programs), `emission` (from
programs to graphs). Each is made from those before it and changes none of them; `session` holds
all of them for one configuration.
"""
