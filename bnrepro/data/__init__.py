"""Datasets: found, checked, decoded once to uint8 arrays, and served as batches that are functions of seed and step.

What may not enter: models, training, and any fallback to another dataset than the one asked for.
"""
