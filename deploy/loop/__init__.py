"""The loop on one machine: simulated merchants play, their picks retrain the models, releases go live under traffic.

`turn` is what an operator runs, too: it knows commands and files, and no truth. The rest plays and measures.
"""
