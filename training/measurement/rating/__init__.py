"""Blind rating by experts: the design that is fixed before, and the analysis after."""
