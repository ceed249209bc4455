#!/usr/bin/env bash
# Renews the Python lock files from pyproject.toml and requirements-oracle.in. Needs the network; `make setup` does not run it.
#
# tools/lock.sh             keeps every pin that still fits
# tools/lock.sh --upgrade   takes the newest versions
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
VENV=.venv-lock

if [[ ! -x $VENV/bin/pip-compile ]]; then
    "$PYTHON" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet pip-tools==7.6.2
fi

# The lock must say nothing of where this machine fetches from.
compile() {
    "$VENV/bin/pip-compile" --quiet --no-config --no-header --strip-extras --generate-hashes --allow-unsafe \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host "$@"
}

compile "$@" --extra dev --output-file requirements.lock pyproject.toml
# The independent Poseidon oracle wants an old pytest and a slow galois, hence a lock and an environment of its own.
compile "$@" --output-file requirements-oracle.lock requirements-oracle.in
# Other people's matching engines are for `make bench` alone.
compile "$@" --output-file requirements-bench.lock requirements-bench.in
