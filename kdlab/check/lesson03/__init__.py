"""Exercises of lesson 03: weight pruning."""
