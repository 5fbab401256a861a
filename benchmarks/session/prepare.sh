#!/usr/bin/env bash
# Gathers in FOLDER what a GPU machine without network needs beside torch, triton, numpy, scipy, e3nn, numba,
# torch-geometric, pandas, pytest and matplotlib. Run it where there is network, carry FOLDER there, and:
#   cd FOLDER/project && PYTHONPATH=FOLDER/site:src python3 benchmarks/gpu_session.py \
#     --reference "env PYTHONPATH=FOLDER/reference python3"
# usage: prepare.sh FOLDER [PYTHON_VERSION of that machine]
set -euo pipefail
to=$(mkdir -p "$1" && cd "$1" && pwd)
version=${2:-3.12}
project=$(cd "$(dirname "$0")/../.." && pwd)

install() { # TARGET PACKAGE...: for that machine; its own torch stays, since no dependency follows
  local target=$1
  shift
  python3 -m pip install --quiet --no-deps --no-compile --only-binary=:all: \
    --python-version "$version" --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --platform manylinux1_x86_64 --target "$target" "$@"
}
both=(ase==3.29.0 lmdb==1.7.3 hydra-core==1.3.8 omegaconf==2.3.1 submitit==1.5.4 orjson==3.13.0
  pydantic==2.14.4 pydantic-core==2.50.5 annotated-types==0.8.0 typing-inspection)
install "$to/site" "${both[@]}" fairchem-core==2.24.0 ase-db-backends==0.11.0 torchtnt==0.2.4 \
  clusterscope==0.0.18 backoff==2.2.1 monty websockets==17.4 ruamel.yaml==0.19.1
install "$to/reference" "${both[@]}" fairchem-core==1.10.0 e3nn==0.5.6
for target in site reference; do # of this one there are sources only
  python3 -m pip install --quiet --no-deps --target "$to/$target" antlr4-python3-runtime==4.9.3
done
mkdir -p "$to/project"
git -C "$project" archive HEAD | tar x -C "$to/project"
du -sh "$to"
