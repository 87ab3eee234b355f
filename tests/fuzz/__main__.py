"""Try mutated recordings of every format on the sandboxed decoder: `make fuzz`, `make fuzz COUNT=… SEED=…`.

Exits with 1 when anything did not end as it must. A seed and a number make the same mutant again: `--seed S --first N
--count 1`.
"""

import argparse
import asyncio
import random
import sys
import time

from tests.fuzz.campaign import Campaign

EVERY = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    print(f"seed {asked.seed}, {asked.count} mutants", flush=True)
    campaign, begun = Campaign(asked.seed), time.monotonic()

    def progress(done: int) -> None:
        if done % EVERY == 0:
            print(f"  {done}: {len(campaign.failures)} failures, {time.monotonic() - begun:.0f} s", flush=True)

    asyncio.run(campaign.run(range(asked.first, asked.first + asked.count), progress=progress))
    print(", ".join(f"{many} {end}" for end, many in campaign.ends.most_common()))
    print(f"slowest {campaign.slowest[0]:.1f} s (number {campaign.slowest[1]}), {len(campaign.failures)} failures")
    for failure in campaign.failures:
        print(f"  {failure}")
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    sys.exit(main())
