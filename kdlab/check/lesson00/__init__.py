"""Exercises of lesson 00: what does a model cost?"""
