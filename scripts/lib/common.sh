# Shared by the scripts of this folder: messages, sections with their time, the repository's root.
# shellcheck shell=bash
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
section_name=
section_start=0

say() { printf '%s\n' "$*" >&2; }

die() {  # STATUS MESSAGE...
  local status=$1
  shift
  say "${0##*/}: $*"
  exit "$status"
}

section_end() {
  [ -z "$section_name" ] || say "== $section_name: done in $((SECONDS - section_start)) s"
  section_name=
}

section() {
  section_end
  section_name=$*
  section_start=$SECONDS
  say "== $section_name"
}

jobs() { echo "${JOBS:-$(nproc)}"; }
