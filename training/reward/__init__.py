"""Reward models by name: their numbers, what each is built from, scores, and the preference table."""
