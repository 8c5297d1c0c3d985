"""Exercises of lesson 01: knowledge distillation."""
