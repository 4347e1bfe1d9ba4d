"""Measuring people: how experts rate pictures (the paper's Table 3), and what a shop's visitors do (its Table 4).

Both know pictures, answers and events; neither knows a model, a training or a simulation. docs/measuring.md says how
the numbers are defined and what is wrong with the paper's own.
"""
