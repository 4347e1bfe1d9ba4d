"""Feedback: receives picks, checks them against the group, and publishes them."""
