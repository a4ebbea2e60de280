"""From an experiment's file and the user's overrides to the frozen runs of a sweep, and their processes.

Hydra is known here and in hydra_plugins/ only. What happens inside a run stands in bnrepro.train.
"""
