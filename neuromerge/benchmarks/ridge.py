"""How the ridge of the balanced vote was chosen, and what a trim does to it: validation pictures, random subsets.

Every variant runs at its natural coefficient (1 for the balanced vote, the paper's 1 / (1 - sigma) for the published
one): nothing is tuned but what the rows name. The first row is what differences are taken to.
"""

from __future__ import annotations

import argparse

from neuromerge.engine.engine import Engine
from neuromerge.merging.registry import get_method
from neuromerge.search.entries import Entry, Values
from neuromerge.search.many import compare_subsets
from neuromerge.settings.choices import family_of

RIDGES = (0.03, 0.1, 0.3)
TRIM_RATIOS = (0.0, 0.5, 0.8)


def variants() -> list[Entry]:
    """The default first, then every ridge at every trim ratio, and the published vote at every trim ratio."""
    method = get_method("neuromerging")
    found: dict[str, Values] = {}
    for ridge in (0.1, *RIDGES):
        for ratio in TRIM_RATIOS:
            title = f"balanced, ridge {ridge:g}, trim ratio {ratio:g}"
            found.setdefault(title, {"vote": "balanced", "ridge": ridge, "trim_ratio": ratio})
    for ratio in TRIM_RATIOS:
        found[f"published, trim ratio {ratio:g}"] = {"trim_ratio": ratio}
    return [Entry(title, title, method, values) for title, values in found.items()]


def main(argv: list[str]) -> int:
    """Print how far every variant gets, with paired differences."""
    parser = argparse.ArgumentParser(prog="python -m neuromerge.benchmarks ridge", description=__doc__)
    parser.add_argument("--family", default="pictoclip", help="a registered family or a folder (default: pictoclip)")
    parser.add_argument("--subsets", type=int, default=20, help="random subsets of tasks (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the subsets")
    options = parser.parse_args(argv)
    family = family_of(options.family)
    models = Engine({family.name: family}).of(family.name).models
    table = compare_subsets(
        models, compared=variants(), subsets=options.subsets, tuned=False, split="validation", seed=options.seed
    )
    print(table.to_markdown())
    return 0
