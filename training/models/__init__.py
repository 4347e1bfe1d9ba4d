"""The three models of the paper as torch modules.

`feature_crossing` (Eq. 2) is used by both `reward_model` (PerFusionRM, Sec. 4.2) and
`adaptive_network` (the personalised adaptive network, Sec. 4.3). Nothing here knows about data
sets or losses, or about files other than a family's.
"""
