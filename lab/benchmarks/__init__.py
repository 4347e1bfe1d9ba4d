"""What training costs: time, as ratios of two ways measured in the same run, and the needs of the full size.

race/ is about serving: CPU a picture beside what people use.
"""
