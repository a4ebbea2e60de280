"""What readers see of many experiments: published results and their check, the page, the README's tables, deviations.

It reads what bnrepro.draw wrote. Nothing here computes a statistic or a verdict.
"""
