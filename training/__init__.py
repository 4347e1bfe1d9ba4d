"""Training: the models of PerFusion, their objectives, and their export to the tensor contract.

Knows torch, diffusers and transformers. Does not know `services`: the two halves meet in
`protos/` and in `model_repository/*/config.pbtxt` only.
"""
