#!/bin/sh
# Puts what uv.lock names into .venv, and uv itself where there is none: install.sh STAMP GROUP...
# STAMP is touched at the end, so that `make` knows. PYTHON names the interpreter (default: python3).
set -eu

python=${PYTHON:-python3}
stamp=$1
shift

sorry() {
    printf 'Volant cannot be installed: %s\n' "$1" >&2
    exit 1
}

command -v "$python" >/dev/null || sorry "there is no $python. Install Python 3.11 or newer, or name yours: make PYTHON=/path/to/python"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    sorry "$("$python" --version) is too old. Install Python 3.11 or newer, or name yours: make PYTHON=/path/to/python"

# A directory without pip was left by an attempt that failed half-way, or made by another tool.
if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        sorry "$("$python" --version) comes without its venv module. On Debian and Ubuntu: apt-get install python3-venv"
    "$python" -m venv --clear --prompt volant .venv
fi

if command -v uv >/dev/null; then
    uv=uv
else
    uv=.venv/bin/uv
    [ -x "$uv" ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13,<0.14' ||
        sorry "pip could not install uv; its message is above"
fi

groups=
for group; do
    groups="$groups --group $group"
done
# The environment is ours, whatever else is active; groups installed before stay.
unset VIRTUAL_ENV UV_PROJECT_ENVIRONMENT
# shellcheck disable=SC2086 # the groups are words without blanks
if ! UV_PYTHON_DOWNLOADS=never "$uv" sync --quiet --frozen --inexact --no-default-groups --python .venv/bin/python $groups; then
    command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null ||
        sorry "a package without a ready-made build for this machine needs a C compiler. On Debian and Ubuntu: apt-get install build-essential python3-dev"
    sorry "uv could not install the packages of uv.lock; its message is above"
fi
touch "$stamp"
