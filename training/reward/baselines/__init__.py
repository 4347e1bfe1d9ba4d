"""PerFusionRM's baselines, each with its own network and its public checkpoint's format.

All have PerFusionRM's signature, (pixels, input_ids, features) → scores, and ignore the features. Their recipes are in
training.reward.recipes.
"""
