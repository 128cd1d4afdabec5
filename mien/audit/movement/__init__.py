"""Movement: do clips move as people do, and is their movement new?"""
