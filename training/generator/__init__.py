"""Generators: their numbers, batches, one training step, sheets of samples, and the generation table."""
