"""The simulated fashion market: garments, prompts, merchants, picks and their true utility.

It exists so that learning can be measured against a known truth. Nothing in here knows about
models: it draws pictures, samples merchants and computes their picks and true utilities.
"""
