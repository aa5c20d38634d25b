# ONNX Runtime's library out of its Python package, pinned by digest, into PREFIX/lib. Only models that the built-in
# engines do not know need it, so that a machine that cannot have it is told so and goes on. No headers are needed.
# shellcheck shell=bash

onnxruntime_version=1.31.1
declare -A onnxruntime_digest=(
  [x86_64]=5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f
  [aarch64]=da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3
)

# install_onnxruntime PREFIX
install_onnxruntime() {
  local prefix=$1 machine digest work
  machine=$(uname -m)
  digest=${onnxruntime_digest[$machine]:-}
  if [ -z "$digest" ]; then
    say "there is none for $machine: build it, and set onnxruntime.library"
    return 0
  fi
  if [ "$(cat "$prefix/stamp" 2>/dev/null)" = "$onnxruntime_version $digest" ]; then
    say "ONNX Runtime $onnxruntime_version is in $prefix"
    return 0
  fi
  if ! python3 -m pip --version >/dev/null 2>&1; then
    say "pip is missing (Debian: python3-pip), so ONNX Runtime is not installed; only models that need it will say so"
    return 0
  fi
  work=$(mktemp -d)
  say "fetching ONNX Runtime $onnxruntime_version, some 20 MB"
  echo "onnxruntime==$onnxruntime_version --hash=sha256:$digest" >"$work/wanted"
  if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --implementation cp --python-version 3.11 --abi cp311 --platform "manylinux_2_28_$machine" \
    --dest "$work" --requirement "$work/wanted" >&2; then
    say "ONNX Runtime could not be fetched (see above); only models that need it will say so. Run again for another try"
    rm -rf "$work"
    return 0
  fi
  # Only the library and its licences; whole before it has its name.
  python3 - "$work" "$work/made" <<'PYTHON'
import pathlib, sys, zipfile
work, made = map(pathlib.Path, sys.argv[1:])
(made / "lib").mkdir(parents=True)
with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
    for name in wheel.namelist():
        base = name.rsplit("/", 1)[-1]
        if name.startswith("onnxruntime/capi/libonnxruntime.so."):
            (made / "lib/libonnxruntime.so").write_bytes(wheel.read(name))
        elif name in ("onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt"):
            (made / base).write_bytes(wheel.read(name))
assert (made / "lib/libonnxruntime.so").exists(), "the package holds no library"
PYTHON
  echo "$onnxruntime_version $digest" >"$work/made/stamp"
  mkdir -p "$(dirname "$prefix")"
  rm -rf "$prefix"
  cp -r "$work/made" "$prefix"
  rm -rf "$work"
  say "ONNX Runtime $onnxruntime_version"
}
