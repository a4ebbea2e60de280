"""Where seeds are spent: forecasts of open claims over experiments, and the loop that runs the next look.

Stands on the plan, which runs, and on what is drawn, which judges; no rule of a verdict and no way of running is here.
"""
