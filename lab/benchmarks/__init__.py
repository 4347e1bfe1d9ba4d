"""The cost of training: time, as ratios of two ways measured in the same run, and the needs of the full size."""
