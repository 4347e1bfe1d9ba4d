"""The demonstration: the paper's case study played against the running cluster."""
