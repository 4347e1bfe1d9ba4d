"""Preference weights from picks: which phrases a candidate shows, and which phrases a profile favours.

tagging      which phrases of the vocabulary each candidate shows, by the family's CLIP
preferences  the preference weights: a choice model from profiles to the favour of every phrase
covariance   how favours vary among merchants, for favours that follow a merchant's own picks
fitting      the weights that explain picks best
train        both from any table of groups, by one command
"""
