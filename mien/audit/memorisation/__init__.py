"""Memorisation: are synthetic faces copies of training faces or people?"""
