"""Runs: how results are named, made, kept and resumed.

spec.py names a result, store.py keeps
it, jobs.py and the engines do the work.
"""
