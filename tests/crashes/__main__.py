"""Kill and interleave everything: `make crashes`, `make crashes COUNT=… SEED=…`.

Exits with 1 when anything was not as promised. Every kill is played, and COUNT interleavings, chosen by SEED; all of
them, some thirty thousand, if it is 0.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter

import structlog

from deploy.processes import RedisServer, temporary_directory
from tests.crashes.campaign import Campaign
from tests.crashes.world import world
from tests.killing import keep_quiet_about_the_killed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes", description=__doc__)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--only", default="", help="a word in the description of the histories to play")
    asked = parser.parse_args()
    keep_quiet_about_the_killed()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), processors=[_drop])
    with temporary_directory() as directory:
        server = RedisServer(directory)
        try:
            return asyncio.run(_run(server.url, asked))
        finally:
            server.stop()


async def _run(url: str, asked: argparse.Namespace) -> int:
    began = time.monotonic()
    async with world(url) as its:
        campaign = Campaign(its)
        await campaign.set_scenes()
        runs = [run for run in await campaign.enumerate() if asked.only in str(run)]
        print(campaign.found(), flush=True)
        if asked.count:
            kills = [run for run in runs if run.meanwhile is None]
            rest = [run for run in runs if run.meanwhile is not None]
            runs = kills + random.Random(asked.seed).sample(rest, min(asked.count, len(rest)))
        print(f"seed {asked.seed}, {len(runs)} histories", flush=True)
        for number, run in enumerate(runs, 1):
            seen = set(campaign.failures.values())
            await campaign.run(run)
            for why in set(campaign.failures.values()) - seen:
                print(f"  {run}: {why}", flush=True)
            if number % 500 == 0:
                spent = time.monotonic() - began
                print(f"  {number}: {len(campaign.failures)} failures, {spent:.0f} s", flush=True)
    for what, many in Counter(campaign.failures.values()).most_common():
        which = [run for run, why in campaign.failures.items() if why == what]
        print(f"{many} times {what}")
        print(*(f"    {name}" for name in which[:6]), sep="\n")
    print(campaign.summary(), f"{time.monotonic() - began:.0f} s")
    return 1 if campaign.failures else 0


def _drop(*_: object) -> str:
    raise structlog.DropEvent


if __name__ == "__main__":
    sys.exit(main())
