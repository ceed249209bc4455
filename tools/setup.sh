#!/usr/bin/env bash
# Sets up the working tree: virtual environment, Python and JavaScript packages, the native core.
#
# Each step is skipped when the stamp it left holds the hash of its inputs. Stamps live inside the directory that the
# step fills (.venv or node_modules), so removing that directory removes them too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}
NATIVE=${NATIVE:-prover/native}

say() { printf 'setup: %s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# One hash over names and contents of the given files, and over the words after `--`.
hash_of() {
    local words=()
    local files=()
    local seen=0
    for item in "$@"; do
        if [[ $item == -- ]]; then seen=1; elif ((seen)); then words+=("$item"); else files+=("$item"); fi
    done
    { printf '%s\n' "${words[@]-}"; if ((${#files[@]})); then sha256sum "${files[@]}"; fi; } | sha256sum | cut -d' ' -f1
}

# step STAMP HASH TITLE FUNCTION
step() {
    local stamp=$1 hash=$2 title=$3 function=$4 started=$SECONDS
    if [[ -f $stamp && $(<"$stamp") == "$hash" ]]; then
        return 0
    fi
    rm -f "$stamp"
    say "$title ..."
    "$function"
    mkdir -p "$(dirname "$stamp")"
    printf '%s\n' "$hash" >"$stamp"
    say "$title: done in $((SECONDS - started)) s"
    did_something=1
}

pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

make_venv() { rm -rf "$VENV" && "$PYTHON" -m venv "$VENV"; }
# Hashes in the lock make pip refuse anything but the very files that were locked.
install_python() { pip install --quiet --require-hashes -r requirements.lock; }
install_project() { pip install --quiet --no-deps --no-build-isolation -e .; }
install_node() { npm ci --no-progress --loglevel=error; }
build_native() {
    local wheels
    rm -rf build/wheels
    "$VENV/bin/maturin" build --quiet --release --locked --manifest-path "$NATIVE/Cargo.toml" \
        --interpreter "$VENV/bin/python" --out build/wheels
    wheels=(build/wheels/*.whl)
    [[ -f ${wheels[0]} ]] || die "maturin built no wheel"
    pip install --quiet --no-deps --no-index --force-reinstall "${wheels[@]}"
}

need() { command -v "$1" >/dev/null || die "$1 is missing: $2"; }

# Two makes at once must not fill one environment together.
mkdir -p build
exec 9>build/.setup.lock
if command -v flock >/dev/null; then flock 9; fi

did_something=0
need "$PYTHON" "install Python 3.11 or later, or set PYTHON"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "$PYTHON is older than 3.11; set PYTHON=python3.11"
need npm "install Node.js 20 or later"

python_hash=$("$PYTHON" -c 'import sys; print(sys.version, sys.base_prefix)')
step "$VENV/.stamp-venv" "$(hash_of -- "$python_hash" "$PWD")" "virtual environment" make_venv
step "$VENV/.stamp-python" "$(hash_of requirements.lock)" "Python packages" install_python
step "$VENV/.stamp-project" "$(hash_of pyproject.toml)" "proofbook, editable" install_project
step node_modules/.stamp-node "$(hash_of package.json package-lock.json .npmrc)" "JavaScript packages" install_node

if [[ -f $NATIVE/Cargo.toml ]]; then
    need cargo "install Rust 1.85 or later"
    mapfile -t native_files < <(find "$NATIVE" -name target -prune -o -type f \
        \( -name '*.rs' -o -name '*.toml' -o -name 'Cargo.lock' -o -name '*.pyi' -o -name '*.py' \) -print | LC_ALL=C sort)
    step "$VENV/.stamp-native" "$(hash_of "${native_files[@]}")" "native core (Rust, a few minutes the first time)" build_native
fi

if ((did_something)); then say "ready after $SECONDS s"; fi
