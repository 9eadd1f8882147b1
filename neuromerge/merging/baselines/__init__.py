"""The published merge methods that NeuroMerging is compared with. Importing this package registers them.

Each is written from its paper; where paper and published code differ, the module says which one is followed.
None holds more than one parameter of every checkpoint at a time: what they need to know about all parameters
together (thresholds, vote totals, quantiles) is found in passes of its own.
"""

# ruff: noqa: F401, I001  (imported in the order in which menus list the methods)
from neuromerge.merging.baselines import arithmetic
from neuromerge.merging.baselines import ties
from neuromerge.merging.baselines import dare
from neuromerge.merging.baselines import pcb
from neuromerge.merging.baselines import consensus
from neuromerge.merging.baselines import tsv_m
from neuromerge.merging.baselines import iso_c
from neuromerge.merging.baselines import iso_cts
from neuromerge.merging.baselines import regmean_free
from neuromerge.merging.baselines import wudi
