"""Ranking: scores pictures for a user and a prompt with the personalised reward model."""
