"""One run: the loop, optimizers and schedules, evaluation, and passes of its own around an update.

Needs torch and the frozen config.json of a run, neither Hydra nor matplotlib. What many runs
need stands in bnrepro.plan.
"""
