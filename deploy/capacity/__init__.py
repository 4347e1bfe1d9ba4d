"""How many machines a load needs: a simulation of rounds that queue, by times measured on one machine.

`python -m deploy.capacity` plans; `make bench-capacity` measures, and tests the simulation against a real overload.
"""
