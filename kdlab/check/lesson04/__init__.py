"""Exercises of lesson 04: structure pruning."""
