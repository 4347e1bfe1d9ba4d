"""Reward models by name: recipes, how each is built, scores, training and evaluation."""
