# debian:trixie-slim where no registry can be reached: the same packages from the Debian mirror, without the same pages.
# shellcheck shell=bash

# storage_options: where podman and buildah keep their images, when not in the usual place ($TROUPE_STORAGE, a directory).
storage_options() {
  [ -z "${TROUPE_STORAGE:-}" ] || echo "--root $TROUPE_STORAGE/root --runroot $TROUPE_STORAGE/run --storage-driver overlay"
}

base_image=docker.io/library/debian:trixie-slim

# make_base_image ENGINE: podman or buildah
make_base_image() {
  local engine=$1 work mirror=${MIRROR:-http://deb.debian.org/debian} container options=() page
  # shellcheck disable=SC2046
  if "$engine" $(storage_options) inspect --type image "$base_image" >/dev/null 2>&1; then
    say "$base_image is there"
    return 0
  fi
  install_packages mmdebstrap
  for page in doc man info locale groff linda lintian; do options+=("--dpkgopt=path-exclude=/usr/share/$page/*"); done
  options+=('--dpkgopt=path-include=/usr/share/doc/*/copyright')
  work=$(mktemp -d)
  say "making it of the packages of $mirror, a minute"
  mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Retries "3"' "${options[@]}" \
    trixie "$work/root.tar" "$mirror" >&2 || { rm -rf "$work"; die 1 "mmdebstrap failed (see above)"; }
  # shellcheck disable=SC2046
  container=$(buildah $(storage_options) from scratch)
  # shellcheck disable=SC2046
  {
    buildah $(storage_options) add --quiet "$container" "$work/root.tar" / >/dev/null
    buildah $(storage_options) config --cmd /bin/bash "$container"
    buildah $(storage_options) commit --quiet --rm "$container" "$base_image" >/dev/null
  }
  rm -rf "$work"
}
