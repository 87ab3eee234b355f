"""Imported by the forkserver once, so that its children begin with it: they start in milliseconds."""

import signal

import worker.decoding
import worker.pool  # noqa: F401 - for the children

# A supervisor may signal the whole group when it means the worker, which then still needs its children.
# They end with the worker; when they must end before, they are killed.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
