# What Troupe needs from Debian 12 or 13, and its installation by apt.
# shellcheck shell=bash

build_packages=(
  g++ cmake ninja-build pkg-config ca-certificates python3-pip  # pip fetches ONNX Runtime
  libcaf-dev libboost-dev libcli11-dev libcurl4-openssl-dev libfmt-dev libsimdjson-dev libspdlog-dev libssl-dev libxxhash-dev libyaml-cpp-dev
  nlohmann-json3-dev prometheus-cpp-dev
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
  libturbojpeg0-dev libpng-dev       # pictures as requests
  zlib1g-dev                         # models of skops, and librdkafka
  libzstd-dev liblz4-dev             # librdkafka's own
)
test_packages=(libgtest-dev libgmock-dev libbenchmark-dev redis-server openssl python3 default-jre-headless maven
  nghttp2-client                     # h2load, which asks gRPC servers
  prometheus prometheus-alertmanager # promtool, amtool, and a Prometheus that scrapes a node
  python3-confluent-kafka            # what examples/python is written with
  python3-yaml)                      # reads manifests and rules

# missing_packages NAME...: those that are not installed, one a line.
missing_packages() {
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p' || true)
  printf '%s\n' "$@" | grep -vxF -f <(printf '%s\n' "$installed") || true
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Debian starts a service when its package is installed; with a policy-rc.d that answers 101 it does not. Ours is there
# only while apt runs, and an existing one is left alone.
forbid_services() {
  local policy=/usr/sbin/policy-rc.d
  [ ! -e "$policy" ] || return 0
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
  trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
}

allow_services() {
  [ -n "$(trap -p EXIT)" ] || return 0
  as_root rm -f /usr/sbin/policy-rc.d
  trap - EXIT
}

# install_packages NAME...: installs what is missing and touches nothing when nothing is.
install_packages() {
  local missing apt
  mapfile -t missing < <(missing_packages "$@")
  if [ ${#missing[@]} -eq 0 ]; then
    say "all $# packages are installed"
    return 0
  fi
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    die 1 "these packages are missing, and there is no sudo; as root: apt-get install ${missing[*]}"
  fi
  say "installing, which takes a minute or more: ${missing[*]}"
  apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  forbid_services
  as_root "${apt[@]}" update >&2 || say "a package source did not answer; going on with the others"
  as_root "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >&2 ||
    die 1 "apt-get install failed (see above): run it again, or install by hand: ${missing[*]}"
  allow_services
}

# require_debian: this is Debian 12 or 13, or the list of what to install and exit status 2.
require_debian() {
  local id='' version='' name=unknown
  if [ -r /etc/os-release ]; then
    id=$(. /etc/os-release && echo "${ID:-}")
    version=$(. /etc/os-release && echo "${VERSION_ID:-}")
    name=$(. /etc/os-release && echo "${PRETTY_NAME:-$id}")
  fi
  case "$id $version" in
    "debian 12" | "debian 13") return 0 ;;
  esac
  say "${0##*/}: knows Debian 12 and 13, and this is $name. Install the counterparts of these Debian packages"
  say "  to build: ${build_packages[*]} librdkafka-dev (>= 2.8) libhiredis-dev (>= 1.0)"
  say "  to test:  ${test_packages[*]}"
  say "then build with: cmake --preset release && cmake --build --preset release"
  exit 2
}
