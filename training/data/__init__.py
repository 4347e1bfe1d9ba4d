"""Training data: groups of candidates with what a user selected among them."""
