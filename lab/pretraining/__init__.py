"""Trains the tiny family from scratch on drawings: tokenizer, VAE, U-Net with text encoder, CLIP, BLIP.

Full-size models do not need this: Stable Diffusion 1.5 and PickScore are published with trained weights.
"""
