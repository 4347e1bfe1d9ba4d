"""A simulated shop and simulated raters, whose lift and ratios are known: the check of training.measurement."""
