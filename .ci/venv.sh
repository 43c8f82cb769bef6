#!/bin/sh
# Builds $VENV with medlab[$1] in it, or says in one line what is missing; `clean` removes it again. Called by the Makefile.
# A folder that it makes gets the file .medlab, which names the course's place. It deletes only a folder with that file;
# whatever else stands where $VENV points is refused and left as it is.
set -u
what=$1
venv=${VENV-.venv}
here=$(pwd -P)

fail() {
    printf 'medlab: %s\n' "$1" >&2
    exit 1
}

case $venv in
    '') fail "VENV is empty: name a folder for the virtual environment, as in make lab VENV=.venv" ;;
    '~'*) fail "the shell has not replaced the ~ in VENV=$venv: write the path in full" ;;
    -*) venv=./$venv ;;
esac
while [ "${venv%/}" != "$venv" ] && [ "$venv" != / ]; do venv=${venv%/}; done
log=$venv/install.log
another="name another folder, as in make lab VENV=.venv-course"

if [ -L "$venv" ] && [ ! -e "$venv" ]; then
    fail "$venv is a link that leads nowhere: remove it, or $another"
elif [ -e "$venv" ] && [ ! -d "$venv" ]; then
    fail "$venv is a file, and a folder is needed for the virtual environment: $another"
fi

# Made for the course in this folder, or moved with it
is_ours() {
    [ -f "$venv/.medlab" ] || return 1
    [ "$(cat "$venv/.medlab")" = "$here" ] && return 0
    case $(cd "$venv" && pwd -P) in "$here"/*) return 0 ;; esac
    return 1
}

# ------------------------------------------------------------------------------------------------ clean
if [ "$what" = clean ]; then
    [ -e "$venv" ] || exit 0
    kept="nothing in it was deleted"
    [ ! -L "$venv" ] || fail "$venv is a link, which make did not make: $kept"
    is_ours || fail "$venv was not made by make in this folder: $kept; delete it yourself if you want it gone"
    case $here/ in "$(cd "$venv" && pwd -P)"/*) fail "$venv holds the course itself: $kept" ;; esac
    for path in "$venv"/* "$venv"/.[!.]*; do
        case ${path##*/} in
            bin | lib | lib64 | include | share | etc | man | pyvenv.cfg | install.log) ;;
            .medlab | .lab | .test | .gitignore | '*' | '.[!.]*') ;;
            *) fail "$path was not put there by make: $kept; move it away, or delete $venv yourself" ;;
        esac
    done
    rm -rf "$venv"
    exit 0
fi

# ------------------------------------------------------------------------------------------------ whose is it?
if [ -f "$venv/.medlab" ] && ! is_ours; then
    fail "$venv was made for the course in $(cat "$venv/.medlab"), and this is $here: $another"
elif [ -f "$venv/.medlab" ] && [ "$(cat "$venv/.medlab")" != "$here" ]; then
    fail "$venv was made when the course stood in $(cat "$venv/.medlab"): run 'make clean' with the same VENV and try again"
fi

# Without .medlab, the stamps mark an environment that an earlier edition of the course installed into.
is_known() {
    [ -f "$venv/.medlab" ] && return 0
    [ -f "$venv/pyvenv.cfg" ] && { [ -f "$venv/.lab" ] || [ -f "$venv/.test" ]; }
}
if [ -d "$venv" ] && ! is_known; then
    if [ -f "$venv/pyvenv.cfg" ]; then
        fail "$venv is a virtual environment that make did not make, so nothing in it was changed: $another, or install into it yourself: pip install -e '.[lab,deploy]'"
    elif [ -n "$(ls -A "$venv" 2>/dev/null)" ] || [ ! -r "$venv" ]; then
        fail "$venv is a folder with something in it and no virtual environment, so nothing in it was changed: $another"
    fi
fi

# ------------------------------------------------------------------------------------------------ already done?
case $what in *test*) stamp=$venv/.test ;; *) stamp=$venv/.lab ;; esac
if [ -f "$stamp" ] && [ -x "$venv/bin/python" ] &&
    [ -z "$(find pyproject.toml constraints.txt .ci/venv.sh -newer "$stamp")" ]; then
    exit 0
fi

if [ -n "${CONSTRAINTS:-}" ] && [ ! -f "$CONSTRAINTS" ]; then
    fail "there is no file of pins CONSTRAINTS=$CONSTRAINTS: correct the name, or install without pins: make lab CONSTRAINTS="
fi

# ------------------------------------------------------------------------------------------------ Python
is_recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

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

# ------------------------------------------------------------------------------------------------ disk
# GB, as measured: installed with the CUDA build of PyTorch that Linux on x86-64 gets, or without it; and what pip
# keeps in its temporary folder meanwhile.
case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) size=7 unpack=3 ;;
    *) size=2 unpack=1 ;;
esac

# What to do about a disk that has too little room, or nothing. Python is asked where df's columns may hold anything.
no_room() {
    "$python" - "$venv" "$size" "$unpack" 2>&1 <<'PY'
import os, pathlib, shutil, sys, tempfile

venv, size, unpack = pathlib.Path(sys.argv[1]).absolute(), int(sys.argv[2]), int(sys.argv[3])
place = next(path for path in (venv, *venv.parents) if path.exists())
named = "name another place: make lab TMPDIR=/a/folder/with/room"
try:
    temporary = tempfile.gettempdir()
except OSError:
    sys.exit(f"no temporary folder can be written to, TMPDIR included: {named}")

def free(path):
    return shutil.disk_usage(path).free / 1e9

def short(asked, path):
    return f"{asked} GB needed in {path}, {free(path):.0f} GB free"

if os.stat(place).st_dev == os.stat(temporary).st_dev:
    if free(place) < size + unpack:
        sys.exit(f"not enough disk for PyTorch: {short(size + unpack, place)}")
elif free(place) < size:
    sys.exit(f"not enough disk for PyTorch: {short(size, place)}")
elif free(temporary) < unpack:
    sys.exit(f"not enough room for temporary files (TMPDIR): {short(unpack, temporary)}: {named}")
PY
}

has_torch() {
    "$venv/bin/python" -c 'import importlib.metadata as m; m.version("torch")' >/dev/null 2>&1
}

if ! has_torch; then
    said=$(no_room) || fail "$(printf '%s\n' "$said" | tail -n 1)"
fi

# ------------------------------------------------------------------------------------------------ venv
made=
forget() {
    [ -z "$made" ] || rm -rf "$made"
}
trap 'forget; exit 130' INT TERM HUP

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
    if [ -f "$venv/pyvenv.cfg" ] && [ ! -f "$venv/.medlab" ]; then
        fail "the Python or the pip in $venv does not work, and make did not make it: $another, or delete it yourself"
    fi
    "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
        fail "$python has no venv module (or no ensurepip): on Debian or Ubuntu run 'sudo apt install python3-venv', then try again"
    if [ ! -d "$venv" ]; then
        case $venv in */*) said=$(mkdir -p "${venv%/*}/" 2>&1) ;; *) said= ;; esac &&
            said=$(mkdir "$venv" 2>&1) || fail "cannot make the folder $venv: ${said##*: }"
        made=$venv
    fi
    { printf '%s\n' "$here" >"$venv/.medlab"; } 2>/dev/null ||
        fail "cannot write into $venv: check who owns it, or $another"
    printf 'medlab: making %s with %s\n' "$venv" "$("$python" -V)"
    said=$("$python" -m venv "$venv" 2>&1) || {
        said=$(printf '%s\n' "$said" | tail -n 1)
        forget
        fail "$python could not make the virtual environment $venv: $said"
    }
    made=
fi
is_recent "$venv/bin/python" ||
    fail "$venv was made with an older Python: remove it ('make clean' does, where make made it) and try again"
{ : >"$log"; } 2>/dev/null || fail "cannot write into $venv: check who owns it, or $another"
has_torch ||
    printf 'medlab: installing about %s GB, a few minutes the first time; log in %s\n' "$size" "$log"

# ------------------------------------------------------------------------------------------------ packages
set -- -m pip install --disable-pip-version-check --no-input --editable ".[$what]"
[ -n "${CONSTRAINTS:-}" ] && set -- "$@" --constraint "$CONSTRAINTS"
if ! "$venv/bin/python" "$@" >"$log" 2>&1; then
    reason=$(grep -E '^ *(ERROR|error|OSError)' "$log" | tail -n 1 | cut -c 1-200)
    if grep -qiE 'no space left|disk quota' "$log"; then
        said=$(no_room) || fail "the disk filled up during the installation: $(printf '%s\n' "$said" | tail -n 1) (log: $log)"
        fail "the disk filled up during the installation: free $((size + unpack)) GB where $venv, pip's cache and the temporary folder (TMPDIR) stand, and try again (log: $log)"
    elif grep -qiE 'name resolution|failed to resolve|network is unreachable|connection (refused|aborted|broken|to .* timed out)|newconnectionerror|connecttimeout|proxyerror|ssl.*error|read timed out|hatchling.*from versions: none' "$log"; then
        fail "the package index cannot be reached: check the network or proxy and try again (log: $log)"
    elif grep -qiE 'no matching distribution|resolutionimpossible|requires a different python' "$log"; then
        fail "no release fits this Python or machine: $reason; without the pins: make lab CONSTRAINTS= (log: $log)"
    fi
    fail "pip could not install: ${reason:-see the log} (log: $log)"
fi

touch "$venv/.lab"
case $what in *test*) touch "$venv/.test" ;; esac
