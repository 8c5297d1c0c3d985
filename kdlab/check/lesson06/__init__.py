"""Exercises of lesson 06: pruning and distillation together."""
