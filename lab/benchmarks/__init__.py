"""What training costs: time as ratios of two things measured in the same run, and what the full size needs."""
