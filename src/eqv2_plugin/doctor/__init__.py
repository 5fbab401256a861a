"""``eqv2 doctor``: what a model does that it should not, measured.

One file per physical question, with its checks, limits and picture: `symmetry`, `gradient`, `nve`,
`speed`. A check is a function of an `Examination`; `examine` lists them all.
"""
