#!/usr/bin/env bash
# Makes .venv with everything that running, testing and developing needs. Safe to run again.
#   PYTHON=...         the interpreter to use (3.11 or newer)
#   TORCH_BACKEND=...  the build of torch: auto (default: CUDA where there is a driver, else CPU), cpu, cu130, ...
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv
uv_version=0.13.9
torch=$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)

say() { printf 'setup: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

# A name on PATH may be a shim of a version that is not installed, or lack venv: only running it tells.
usable() { "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    usable "$PYTHON" || fail "PYTHON=$PYTHON must be Python 3.11 or newer with the venv module."
    printf '%s\n' "$PYTHON"
    return
  fi
  local candidate
  for candidate in python3 python3.11 python3.12 python3.13 python3.14 python; do
    if usable "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or newer with the venv module found. Install one, or name it: PYTHON=/path/to/python make setup"
}

if ! usable "$venv/bin/python"; then
  python=$(find_python)
  say "making $venv with $("$python" --version)"
  "$python" -m venv --clear "$venv"
fi
# Inherited from a caller's own environment, these would send the packages elsewhere.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
pip install "uv==$uv_version"

# torch comes first and by itself: resolved together with the rest, Linux would get gigabytes of CUDA packages
# whether or not there is a GPU. A file that pip is configured to find locally is taken as it is.
if "$venv/bin/python" -c "import importlib.metadata as m, sys; sys.exit(m.version('torch').split('+')[0] != '${torch#*==}')" 2>/dev/null; then
  say "$torch is there"
elif pip install --no-index --no-deps "$torch" 2>/dev/null; then
  say "$torch from a local file"
else
  say "fetching $torch (TORCH_BACKEND=${TORCH_BACKEND:-auto})"
  "$venv/bin/uv" pip install --quiet --compile-bytecode --python "$venv/bin/python" --torch-backend="${TORCH_BACKEND:-auto}" "$torch" ||
    fail "$torch could not be fetched. Install it into $venv yourself and run this again."
fi

say "installing the packages of constraints.txt"
"$venv/bin/uv" pip install --quiet --compile-bytecode --python "$venv/bin/python" --constraint constraints.txt --editable '.[models,sweeps,dev]'
"$venv/bin/brf-exp" --version
