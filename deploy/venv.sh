#!/usr/bin/env bash
# Make the virtual environment given as $1 and install requirements.lock and this project into it.
# Works as root or not; needs Python 3.11. Called by `make install`, which remembers success.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

find_python() {
  local name
  for name in python3.11 python3 /usr/bin/python3.11 /usr/bin/python3; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      command -v "$name"; return
    fi
  done
  echo "Python 3.11 was not found (looked for python3.11 and python3). On Debian 12: apt-get install python3 python3-venv" >&2
  exit 1
}

make_venv() {
  local python=$1
  "$python" -m venv "$venv" >/dev/null 2>&1 && return
  # Debian's python3 comes without ensurepip until python3-venv is there.
  rm -rf "$venv"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "python3-venv is missing: installing it"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    "$python" -m venv "$venv"
  elif "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --without-pip "$venv"
    "$python" -m pip --python "$venv/bin/python" install --quiet pip
  else
    echo "Neither ensurepip nor pip is there. As root: apt-get install python3-venv, then run this again." >&2
    exit 1
  fi
}

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
  python=$(find_python)
  echo "making $venv with $python"
  rm -rf "$venv"
  make_venv "$python"
fi

count=$(grep -c -E '^[A-Za-z0-9._-]+==' requirements.lock)
echo "installing $count locked packages into $venv (about 5 GB with PyTorch; a minute or two)"
# --no-deps: the lock is complete, and two of its packages disagree about click's version (README, "Installation in detail").
# The lines of pip about what it collects and how far a download is are the progress; "already satisfied" is noise.
PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore "$venv/bin/python" -m pip install \
  --no-deps --require-hashes --progress-bar off -r requirements.lock 2>&1 |
  { grep --line-buffered -v -E "^(Requirement already satisfied|Looking in|Collecting|  Downloading .* kB\)|  Using cached|  File was already|Installing collected|  Attempting uninstall|    Found existing|    Uninstalling|      Successfully|Successfully installed)" || true; }
echo "installing eureka-stream itself (editable)"
PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore "$venv/bin/python" -m pip install \
  --quiet --no-deps --no-build-isolation --editable . 2>&1 | { grep --line-buffered -v -E "^ |^$" || true; }
