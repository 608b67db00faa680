"""Searches that are killed and continued, many times: nothing is lost, done twice or left behind.

    python benchmarks/kill.py --kills 1000 --seed 0

Each trial kills one search one to three times, before a random operation on a file, in the middle of a write, or at a random
time, and continues it; what came out must be, to the bit, what comes out undisturbed. See ``tests/_kills.py``.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests._kills import trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="kills in all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first trial")
    options = parser.parse_args()
    done: Counter[str] = Counter()
    seed = options.seed
    while done["kills"] < options.kills:
        try:
            found = trial(seed)
            assert found.outcome == found.undisturbed, f"{found.done}: the outcome differs"
        except AssertionError as error:
            done["wrong"] += 1
            print(f"seed {seed}: {str(error)[:2000]}")
        else:
            _, _, kills = found.done.partition("killed at ")
            every = kills.split(", ")
            ended = sum("ended before" in kill for kill in every)
            done["kills"] += len(every) - ended
            done["at operations"] += sum("operation" in kill and "ended" not in kill for kill in every)
        done["runs"] += 1
        seed += 1
    print(", ".join(f"{number:,} {what}" for what, number in done.items()))
    sys.exit(1 if done["wrong"] else 0)


if __name__ == "__main__":
    main()
