"""Exercises of lesson 07: quantisation."""
