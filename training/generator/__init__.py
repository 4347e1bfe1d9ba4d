"""Generators: recipes, batches, one training step, sampling, sheets of samples, and the training commands."""
