"""The gradient tool: what is measured of each layer, when, what it means in words, and how it is shown.

A library for any training loop: it needs torch, numpy and pandas (scipy for words, rich and matplotlib to show), and
imports of this package only bnrepro.core. Nothing here changes a training, and nothing raises inside a user's loop.
"""
