"""What readers see of many experiments: published results and their check, the page, tables in Markdown, deviations.

It reads what bnrepro.draw wrote. Nothing here computes a statistic or a verdict.
"""
