"""Training: the models of PerFusion, their objectives, and their export to the tensor contract.

Knows torch, diffusers and transformers. Does not know `services`: the two halves share only
`contract/` and `model_repository/*/config.pbtxt`.
"""
