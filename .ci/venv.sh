#!/bin/sh
# Builds $VENV with medlab[$1] in it, or says in one line what is missing. Called by the Makefile.
set -u
extras=$1
venv=${VENV:-.venv}
log=$venv/install.log

fail() {
    printf 'medlab: %s\n' "$1" >&2
    exit 1
}

is_recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# ------------------------------------------------------------------------------------------------ Python
python=${PYTHON:-}
if [ -z "$python" ]; then
    for name in python3 python3.13 python3.12 python3.11 python3.14 python; do
        if is_recent "$name"; then
            python=$name
            break
        fi
    done
fi
if [ -z "$python" ]; then
    found=$(python3 -c 'import platform; print(platform.python_version())' 2>/dev/null) ||
        found='none'
    fail "Python 3.11 or newer is needed, found $found: install one, or name it: make lab PYTHON=/path/to/python3.12"
fi
is_recent "$python" ||
    fail "Python 3.11 or newer is needed, and $python is none: install one, or name it: make lab PYTHON=/path/to/python3.12"

# ------------------------------------------------------------------------------------------------ venv
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
    "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
        fail "$python has no venv module (or no ensurepip): on Debian or Ubuntu run 'sudo apt install python3-venv', then try again"
    rm -rf "$venv"
    printf 'medlab: making %s with %s\n' "$venv" "$("$python" -V)"
    said=$("$python" -m venv "$venv" 2>&1) || {
        said=$(printf '%s\n' "$said" | tail -n 1)
        rm -rf "$venv"
        fail "$python could not make the virtual environment $venv: $said"
    }
fi
is_recent "$venv/bin/python" ||
    fail "$venv was made with an older Python: run 'make clean' and try again"

# ------------------------------------------------------------------------------------------------ disk
# Measured: 6.4 GB installed with the CUDA build of PyTorch that Linux on x86-64 gets, and pip unpacks one archive
# at a time beside it; about 2 GB elsewhere.
if ! "$venv/bin/python" -c 'import importlib.metadata as m; m.version("torch")' >/dev/null 2>&1; then
    case "$(uname -s)-$(uname -m)" in
        Linux-x86_64) need=9 ;;
        *) need=3 ;;
    esac
    free=$(df -Pk "$venv" 2>/dev/null | awk 'NR == 2 { print int($4 / 1000000) }')
    if [ -n "$free" ] && [ "$free" -lt "$need" ]; then
        fail "not enough disk for PyTorch: $need GB needed in $(pwd), $free GB free"
    fi
    printf 'medlab: installing about %s GB, a few minutes the first time; log in %s\n' "$((need - 2))" "$log"
fi

# ------------------------------------------------------------------------------------------------ packages
set -- -m pip install --disable-pip-version-check --no-input --editable ".[$extras]"
[ -n "${CONSTRAINTS:-}" ] && set -- "$@" --constraint "$CONSTRAINTS"
if ! "$venv/bin/python" "$@" >"$log" 2>&1; then
    reason=$(grep -E '^ *(ERROR|error|OSError)' "$log" | tail -n 1 | cut -c 1-200)
    if grep -qiE 'no space left|disk quota' "$log"; then
        fail "the disk filled up during the installation: free 9 GB and try again (log: $log)"
    elif grep -qiE 'name resolution|failed to resolve|network is unreachable|connection (refused|aborted|broken|to .* timed out)|newconnectionerror|connecttimeout|proxyerror|ssl.*error|read timed out|hatchling.*from versions: none' "$log"; then
        fail "the package index cannot be reached: check the network or proxy and try again (log: $log)"
    elif grep -qiE 'no matching distribution|resolutionimpossible|requires a different python' "$log"; then
        fail "no release fits this Python or machine: $reason; without the pins: make lab CONSTRAINTS= (log: $log)"
    fi
    fail "pip could not install: ${reason:-see the log} (log: $log)"
fi

touch "$venv/.lab"
case $extras in *test*) touch "$venv/.test" ;; esac
