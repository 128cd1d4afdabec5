"""Runs: how results are named, made, kept and resumed.\n\nspec.py names a result, store.py keeps
it, jobs.py and the engines do the work.
"""
