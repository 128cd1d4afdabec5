"""The audit of a synthetic database: is it good, is it new, does it show what its label says, and would we know?"""
