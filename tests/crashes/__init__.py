"""Crashes at every step: see `campaign.py`. `make crashes` runs all of it, `tests/integration/test_crashes.py` a part."""
