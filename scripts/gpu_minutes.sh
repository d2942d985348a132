#!/usr/bin/env bash
# The few minutes on a lent GPU: everything in one command, each step under its own timeout, all output kept.
#
#   OUT=DIR scripts/gpu_minutes.sh measure [--seconds 480] [--only STEP,...]
#   OUT=DIR scripts/gpu_minutes.sh train   [--seconds 540] [--init WEIGHTS] [-- more of `dvmvs train regulariser`]
#
# What is still unknown is measured first. Steps: training small paper full rates tests paper32
# OUT receives at most eight files of at most 16 MiB. The machine needs python3 with torch, triton, numba, numpy, OpenCV,
# scipy, rich and safetensors; the other packages come along as wheels in .gpu/wheels (`make gpu-wheels`, before).
# --device cpu --tiny runs the same steps in seconds on any machine, to try the script. PYTHON names the interpreter.
set -uo pipefail # not -e: a step that fails must not keep the next one from running
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  sed -n '2,10p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'
  exit 2
}

mode=${1:-}
[[ $mode == measure || $mode == train ]] || usage
shift
steps='training small paper full rates tests paper32'
seconds= device=cuda init= tiny= only= more=()
while (($#)); do
  case $1 in
    --seconds | --device | --init | --only) [[ $# -ge 2 ]] || usage && printf -v "${1#--}" '%s' "$2" && shift 2 ;;
    --tiny) tiny=yes && shift ;;
    --) shift && more=("$@") && break ;;
    *) usage ;;
  esac
done
only=${only//,/ }
for name in $only; do
  [[ " $steps " == *" $name "* ]] || usage
done
: "${OUT:?name the folder for the results: OUT=DIR}" "${seconds:=$([[ $mode == measure ]] && echo 480 || echo 540)}"
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
log=$OUT/$mode.log
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1 DVMVS_CACHE_DIR=$scratch/cache
if ! "$python" -c 'import tyro, kornia, pytest' 2>/dev/null; then
  for wheel in .gpu/wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$scratch/packages"; done
  PYTHONPATH+=:$scratch/packages
fi

left() { echo $((seconds - SECONDS)); }

step() { # name, most seconds, command: run it within what is left, and keep its output and its fate
  local name=$1 limit=$2 started=$SECONDS status
  shift 2
  [[ -n $tiny ]] && limit=$((10 * limit)) # the machine may be busy with other things
  (($(left) < limit)) && limit=$(left)
  printf '\n== %s, at most %s s: %s\n' "$name" "$limit" "$*" >>"$log"
  if ((limit < 1)); then
    echo "== $name: not begun, no time left" | tee -a "$log"
    return
  fi
  timeout --signal=INT --kill-after=10 "$limit" "$@" >>"$log" 2>&1
  status=$?
  echo "== $name: exit $status after $((SECONDS - started)) s" | tee -a "$log"
}

benchmark() { # file, options: latency, stages and memory beside the reference path
  step "benchmark $1" 45 "$python" -m dvmvs_core benchmark --device "$device" --keyframes "$keyframes" \
    --json "$OUT/$1.json" "${@:2}"
}

versions() {
  step versions 30 "$python" - <<'END'
import importlib.metadata, platform, torch
print(platform.platform(), platform.python_version(), "CUDA", torch.version.cuda, torch.cuda.is_available())
if torch.cuda.is_available():
    print(torch.cuda.get_device_properties(0))
for name in ("torch", "triton", "numpy", "numba", "opencv-python", "opencv-python-headless", "kornia", "safetensors"):
    try:
        print(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        print(name, "missing")
END
  command -v nvidia-smi >/dev/null && step nvidia-smi 10 nvidia-smi
}

measure() {
  local name
  half=float16 keyframes=60
  [[ -n $tiny ]] && keyframes=1
  [[ $device == cpu ]] && export DVMVS_GPU_TESTS_ON=cpu half=bfloat16
  for name in ${only:-$steps}; do
    "measure_$name"
  done
}

tests() { # name, most seconds, files and options of pytest; its own configuration, since pyproject's wants plugins
  step "$1" "$2" "$python" -m pytest -c /dev/null --rootdir . --confcutdir test --import-mode importlib \
    -p no:cacheprovider -q --durations 5 "${@:3}"
}

measure_training() { # frames a second, and where the time of a step goes: no GPU has shown it yet
  local sizes=()
  [[ -n $tiny ]] && sizes=(--sizes 96x64x1 128x64x1 --frames 3 --workers 1 --seconds 1)
  step training 150 "$python" benchmarks/training_rates.py "$OUT/training.json" --device "$device" "${sizes[@]}"
}

measure_paper() { benchmark "paper-$half" --preset paper --precision "$half"; }

measure_paper32() { benchmark paper-float32 --preset paper; }

measure_full() { benchmark small-full --matching full --reference no; }

measure_small() {
  benchmark small-float32
  benchmark "small-$half" --precision "$half"
}

measure_tests() {
  if [[ -n $tiny ]]; then
    tests tests 60 test/gpu/test_inference_on_gpu.py -k "fused and 16-2"
  else
    tests tests 200 test/gpu
  fi
}

measure_rates() { # cameras, sizes, where the time of a keyframe goes, renderer
  step rates 90 "$python" benchmarks/gpu_rates.py "$OUT/rates.json" --device "$device" --keyframes "$keyframes" \
    $([[ -n $tiny ]] && echo --seconds 900 --clips 1 --height 64 --width 96)
}

train() {
  local run=$scratch/run age_s workers sizes=(--precision bfloat16)
  workers=$(($(nproc) > 3 ? $(nproc) - 2 : 1)) # the rest feeds the GPU
  [[ -n $tiny ]] && sizes=(--height 64 --width 96 --clips 2 --held-out 1 --log-steps 1 --steps 2)
  # What the shell has used up counts; a quarter minute is kept to copy.
  age_s=$((SECONDS + 15))
  step train "$((seconds - 5))" "$python" -m dvmvs_core train regulariser --device "$device" --out "$run" \
    --deadline "$((seconds - age_s))" --validate-minutes 1 --workers "$workers" ${init:+--init "$init"} "${sizes[@]}" \
    "${more[@]}" &
  local training=$!
  # Copied as it goes: a machine that is taken away leaves what was there a minute ago.
  while kill -0 "$training" 2>/dev/null; do
    collect "$run"
    sleep 5
  done
  wait "$training"
  collect "$run"
  pack "$run"
}

collect() { # run folder: weights and log, each whole
  local name
  for name in regulariser.safetensors log.jsonl; do
    cp -p "$1/$name" "$OUT/.$name" 2>/dev/null && mv "$OUT/.$name" "$OUT/$name"
  done
}

pack() { # run folder: of the clips, the smallest, as many as go into two archives of at most 15 MiB
  local clip archive
  while read -r clip; do
    for archive in "$OUT"/clips-{1,2}.tar; do
      # An archive ends on a multiple of 10 KiB, and has half a KiB more for each file.
      if (($(stat -c %s "$archive" 2>/dev/null || echo 0) + $(stat -c %s "$clip") + 20480 <= 15 * 2 ** 20)); then
        tar -rf "$archive" -C "$1" "${clip#"$1/"}"
        continue 2
      fi
    done
    break
  done < <(ls -Sr "$1"/clips/*.npz 2>/dev/null)
  echo "clips: $(ls "$1"/clips/*.npz 2>/dev/null | wc -l) recorded, $(cat "$OUT"/clips-?.tar 2>/dev/null | tar -tif - | wc -l) kept" |
    tee -a "$log"
}

versions
"$mode"
# Nothing may come back that is too large, or too much.
find "$OUT" -maxdepth 1 -type f -size +16M -print -delete | sed 's/^/too large, left out: /' | tee -a "$log"
ls -l "$OUT"
