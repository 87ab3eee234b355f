"""The users of Redis: passwords, each in a file of its own, and `users.acl` with their digests.

`python -m deploy.acl DIRECTORY` makes both, for an operator and for tests alike.
"""

import hashlib
import os
import re
import secrets
import sys
from pathlib import Path

ROLES = ("api", "worker", "notifier", "admin")
"""One user for each process of Volant, and one for its command line."""

_TEMPLATE = Path(__file__).with_name("users.acl")


def make_users(directory: Path) -> Path:
    """Write `users.acl`, and a password for each role into `ROLE.password`; return the first. All of mode 0600.

    Passwords that are there stay. Blank lines and comments are left out: Redis takes none.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    rules = "\n".join(line for line in _TEMPLATE.read_text().splitlines() if line.startswith("user "))
    for role in ROLES:
        digest = hashlib.sha256(_password(directory / f"{role}.password").encode()).hexdigest()
        rules = re.sub(rf"#{role.upper()}\b", f"#{digest}", rules)
    users = directory / "users.acl"
    _write(users, rules + "\n", os.O_TRUNC)
    return users


def _password(path: Path) -> str:
    if not path.exists():
        _write(path, secrets.token_urlsafe(32), os.O_EXCL)
    return path.read_text()


def _write(path: Path, text: str, how: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600), "w") as file:
        file.write(text)


if __name__ == "__main__":
    sys.stdout.write(f"{make_users(Path(sys.argv[1]))}\n")
