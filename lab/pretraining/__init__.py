"""Trains the tiny family from scratch on drawings: recogniser, VAE, U-Net with text encoder, CLIP.

Nobody needs this for full-size models: Stable Diffusion 1.5 and PickScore come trained.
"""
