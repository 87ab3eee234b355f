"""`python -m worker`: a worker as a process."""

import sys

from retention.process import run
from worker.main import work

if __name__ == "__main__":
    sys.exit(run("worker", work))
