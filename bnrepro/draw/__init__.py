"""From saved tables to figure.csv, claims.csv and the pictures: selection, statistics, claims.

Needs pandas and matplotlib, never torch, Hydra or data. Pages and what is published stand in bnrepro.report.
"""
