"""Load: many users of several tenants, with bounds that it must keep."""

from collections.abc import Mapping


def target(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the URL and the keys, separated by commas, of a running service; empty when none is named.

    `make run` writes one key down as VOLANT_APIKEY. Raises ValueError when one is given without the other.
    """
    url = environ.get("VOLANT_URL", "")
    keys = environ.get("VOLANT_APIKEYS", "") or environ.get("VOLANT_APIKEY", "")
    if bool(url) != bool(keys):
        raise ValueError("Give both VOLANT_URL and VOLANT_APIKEYS (or VOLANT_APIKEY), or neither.")
    return url, keys
