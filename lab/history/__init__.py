"""What a merchant's last picks are worth beside the profile, by the truth: `python -m lab.history.evaluate`."""
