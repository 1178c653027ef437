#!/usr/bin/env bash
# Builds the example: build.sh GGML LUTMUL PROGRAM
#
# GGML has include/ggml.h and libraries in lib or lib64, as ggml's own `cmake --install` and the package
# libggml-python of PyPI have. LUTMUL is the prefix of a `cargo cinstall`.
set -euo pipefail
ggml=$1 lutmul=$2 program=$3
here=$(dirname "$0")
libraries=$ggml/lib
[[ -d $libraries ]] || libraries=$ggml/lib64
"${CC:-gcc}" -std=c11 -O1 -g -Wall -Wextra -o "$program" "$here/main.c" "$here/rows.c" \
  -isystem "$ggml/include" "-I$lutmul/include" "-L$lutmul/lib" "-L$libraries" \
  "-Wl,-rpath,$lutmul/lib,-rpath,$(realpath "$libraries")" -llutmul -lggml -lggml-cpu -lggml-base -lm
