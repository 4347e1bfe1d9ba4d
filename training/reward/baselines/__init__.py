"""The reward models that PerFusionRM is compared with, each with its own network and its public checkpoint's format.

All are called like PerFusionRM, (pixels, input_ids, features) → scores, and ignore the features: no baseline knows
its user. How each is trained is in training.reward.recipes.
"""
