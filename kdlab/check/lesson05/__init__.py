"""Exercises of lesson 05: controlling sparsity."""
