"""The audit of a synthetic database: is it good, is it new, are its labels true?"""
