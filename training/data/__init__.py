"""Training data: groups of candidates with a merchant's picks."""
