"""Labels: do faces show what their label says?"""
