"""Feedback: takes picks, checks them against the group shown, and publishes them."""
