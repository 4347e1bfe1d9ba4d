"""Back-up and restore of a whole platform, to one consistent point: taking.py says why it is one."""
