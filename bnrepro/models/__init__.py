"""The networks and their initial weights, with the norm as an argument and never as a second class.

What may not enter: training, data, and norms themselves, which stand in bnrepro.norms.
"""
