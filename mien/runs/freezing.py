"""Modules that were loaded before a fork stay shared memory after it.

The local engine loads this module last in the server that it forks workers from. A collection of
garbage writes into the header of each object that it visits, which would copy the memory page into
each worker; `gc.freeze` takes what is loaded out of all later collections.
"""

import gc

gc.collect()
gc.freeze()
