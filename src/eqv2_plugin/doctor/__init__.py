"""``eqv2 doctor``: what a model does that it should not, measured.

Every check is a function of a ``predict`` callable and of structures, and returns numbers;
`examine` gives each its share of the time and makes the table.
"""
