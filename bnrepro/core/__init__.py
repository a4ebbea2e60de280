"""What every other room stands on: the fields of a run and their checks, its identity, its directory, tables and paths.

Nothing here imports another room, torch, Hydra or matplotlib. What is about one stage only does not belong here.
"""
