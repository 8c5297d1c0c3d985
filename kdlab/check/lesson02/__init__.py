"""Exercises of lesson 02: what makes a good teacher?"""
