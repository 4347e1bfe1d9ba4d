"""The race: pictures a CPU-second of this platform and of what people use, on the same weights in one run.

`python -m lab.benchmarks.race --help` says how. Read job, then __main__; contestants/ is run, never imported.
"""
