#!/usr/bin/env bash
# Makes .venv: the Python packages, ROS 2 from wheels, tf2_msgs built here, and this package (editable).
#
# Every stage leaves a stamp named after the content of its inputs, so a second run does nothing, an
# edit repeats only the stages that it touches, and a broken run goes on where it stopped.
# Environment: PYTHON, the interpreter to make .venv with (else the one it has, else the first that fits).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly venv=$PWD/.venv
readonly state=$venv/.setup # stamps, logs and the built wheel
readonly temporary=${TMPDIR:-/tmp}
readonly oldest=10 newest=13 # minor versions of Python 3 that the ROS wheels exist for

say() { printf 'setup: %s\n' "$*"; }

fail() { # message lines
  printf 'setup: %s\n' "$@" >&2
  exit 1
}

digest() { # files -> a short name of their content
  cat -- "$@" | sha256sum | cut -c1-16
}

finished() { # stage-digest
  [[ -e $state/$1.done ]]
}

begin() { # stage-digest; what an earlier run finished of this stage is about to change
  rm -f "$state/${1%-*}"-*.done
}

finish() { # stage-digest
  touch "$state/$1.done"
}

supported() { # interpreter -> whether it starts and fits
  "$1" -ISc "import sys; sys.exit(not (3, $oldest) <= sys.version_info[:2] <= (3, $newest))" 2>/dev/null
}

identity() { # interpreter -> what .venv depends on
  "$1" -ISc 'import sys; print(sys.version)' 2>/dev/null
}

choose_python() { # -> the interpreter to make .venv with
  local candidate
  if [[ -n ${PYTHON:-} ]]; then
    command -v "$PYTHON" >/dev/null || fail "PYTHON=$PYTHON is not a program on the PATH."
    supported "$PYTHON" || fail \
      "expected Python 3.$oldest to 3.$newest; got $("$PYTHON" --version 2>&1 | head -n 1) from PYTHON=$PYTHON." \
      "Name another one: make setup PYTHON=python3.12"
    echo "$PYTHON"
    return
  fi
  # What .venv was made with comes first: PYTHON need not be repeated.
  for candidate in "$(readlink -f "$venv/bin/python" || true)" python3 python3.{12,11,13,10}; do
    if [[ -n $candidate ]] && supported "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  fail "expected Python 3.$oldest to 3.$newest; python3 is $(python3 --version 2>&1 || echo missing)." \
    "Install one of these versions, then name it: make setup PYTHON=python3.12"
}

check_machine() {
  [[ $(uname -sm) == "Linux x86_64" ]] || fail \
    "the ROS 2 wheels exist for Linux x86_64 only; this is $(uname -sm)." \
    "Use a ROS 2 distribution and colcon instead: README.md, quick start."
  { command -v cc && command -v c++; } >/dev/null || fail \
    "tf2_msgs is built from source and needs a C and a C++ compiler (cc and c++), which are not here." \
    "On Debian and Ubuntu: sudo apt install build-essential"
}

free_kb() { # directory
  df --output=avail -k -- "$1" | tail -n 1
}

disk_is_full() { # pip's log, which may not have found room for its last lines
  grep -q 'No space left on device' "$1" || (($(free_kb "$state") < 1024))
}

# Pip installs nothing before everything is fetched, and keeps what it has fetched: a later try, in
# this run or the next, goes on from there.
pip_in() { # environment, name of the log, pip's arguments
  local environment=$1 log=$state/$2.log try
  shift 2
  for try in 1 2 3; do
    if "$environment/bin/python" -m pip --disable-pip-version-check --no-input \
      --retries 5 --timeout 60 "$@" >>"$log" 2>&1; then
      return
    fi
    ! disk_is_full "$log" || fail \
      "the disk is full: $(($(free_kb "$state") / 1024)) MB are free for .venv, $(($(free_kb "$temporary") / 1024)) MB in $temporary." \
      ".venv takes 2.1 GB, and pip more while it works. Make room, then run 'make setup' again."
    ((try == 3)) || sleep $((try * 3))
  done
  grep -v '^WARNING' "$log" | tail -n 15 >&2
  fail "pip failed three times; the whole log is $log." \
    "If a download broke, run 'make setup' again: it goes on where it stopped."
}

make_venv() { # directory
  local output
  output=$("$python" -m venv --clear "$1" 2>&1) || fail \
    "$python could not make a virtual environment: ${output:-no reason given}" \
    "On Debian and Ubuntu: sudo apt install python3-venv"
}

stage_environment() {
  begin "$environment_key"
  # It may be of another Python, or of one that is gone, or have been ended before pip was in.
  if [[ $(identity "$venv/bin/python") != "$python_identity" ]] ||
    ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "[1/5] making .venv with $("$python" --version)"
    make_venv "$venv"
  fi
  mkdir -p "$state"
  finish "$environment_key"
}

stage_packages() {
  begin "$packages_key"
  say "[2/5] fetching and installing torch, ROS 2 Kilted and the other packages of constraints.txt"
  # --no-compile: python compiles what it imports, a fraction of what is installed.
  # A package whose installation was ended half-way can have metadata and no record of its files,
  # and pip would take it for complete.
  local metadata
  for metadata in "$venv"/lib/python3*/site-packages/*.dist-info; do
    [[ ! -d $metadata || -e $metadata/RECORD ]] || rm -rf "$metadata"
  done
  pip_in "$venv" packages install --no-compile -c constraints.txt -e '.[ros,test]'
  finish "$packages_key"
}

# In an environment of its own, so that it can run beside stage_packages.
stage_tf2_wheel() {
  begin "$wheel_key"
  say "[3/5] building tf2_msgs, the one ROS package that has no wheel"
  local build=$state/build-environment
  rm -rf "$state/wheels"
  make_venv "$build"
  pip_in "$build" tf2_msgs wheel --no-deps --wheel-dir "$state/wheels" ./pip_ros/tf2_msgs
  rm -rf "$build"
  finish "$wheel_key"
}

stage_package() { # "anew" unless stage_packages has just installed dvmvs_ros
  say "[4/5] installing tf2_msgs and dvmvs_ros"
  pip_in "$venv" dvmvs_ros install --no-deps --force-reinstall --no-build-isolation "$state"/wheels/*.whl ${1:+-e .}
  "$venv/bin/python" -c 'import rclpy, tf2_msgs.msg' 2>>"$state/dvmvs_ros.log" || fail \
    "rclpy and tf2_msgs are installed but cannot be imported; the log is $state/dvmvs_ros.log." \
    "Start over: make clean setup"
  finish "$package_key"
}

# Without it the first start would compile, so it is no reason to fail.
stage_compile() {
  say "[5/5] compiling the network for this processor"
  if "$venv/bin/dvmvs" warm-up >"$state/compile.log" 2>&1; then
    finish "$compile_key"
  else
    say "that failed, and the first start will do it; the log is $state/compile.log"
  fi
}

main() {
  check_machine
  python=$(choose_python)
  python_identity=$(identity "$python")

  exec {lock}<Makefile
  flock --nonblock "$lock" || { say "waiting for another setup of this folder"; flock "$lock"; }

  local tf2_sources installed_files
  tf2_sources=$(find pip_ros/tf2_msgs -type f | sort)
  installed_files=$(find config launch resource -type f | sort)
  environment_key=environment-$(digest - <<<"$python_identity")
  packages_key=packages-$(digest setup.py constraints.txt - <<<"$environment_key")
  wheel_key=tf2_wheel-$(digest $tf2_sources - <<<"$environment_key")
  package_key=package-$(digest setup.cfg pyproject.toml package.xml $installed_files - \
    <<<"$packages_key $wheel_key")

  compile_key=compile-$(digest $(find dvmvs_core/{runtime,matching,model,weights} -type f -not -name "*.nb[ic]" -not -name "*.pyc" -not -name "*.sha256" | sort) - \
    <<<"$package_key")

  finished "$environment_key" || stage_environment
  if finished "$package_key"; then
    finished "$compile_key" || stage_compile
    say ".venv is up to date"
    return
  fi
  begin "$package_key" # the last stage: it vouches for all the others
  rm -f "$state"/*.log

  local wheel_job=
  if ! finished "$wheel_key"; then
    set -m # a process group of its own, to end pip and the compiler with it
    stage_tf2_wheel &
    wheel_job=$!
    set +m
    trap 'kill -- "-$wheel_job" 2>/dev/null || true' EXIT
  fi
  local anew=anew
  finished "$packages_key" || { stage_packages; anew=; }
  [[ -z $wheel_job ]] || wait "$wheel_job"
  trap - EXIT
  stage_package $anew
  stage_compile
  say "done in $SECONDS s; activate with: source .venv/bin/activate"
}

main
