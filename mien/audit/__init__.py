"""The audit of a synthetic database: is it good, new and labelled correctly?"""
