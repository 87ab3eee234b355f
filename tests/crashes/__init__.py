"""Crashes at every step, see `campaign.py`. `make crashes` plays them; `tests/integration/test_crashes.py` a part."""
