# librdkafka and hiredis from the source packages of newer Debian suites, built once into PREFIX: Debian 12's own are too
# old (cooperative rebalancing fixes and KIP-848 need librdkafka 2.10, TLS needs hiredis 1.0).
# The sources come from where this machine's apt gets its own suite, so mirrors, proxies and keyrings hold; apt checks the
# signatures and hashes. Nothing of the machine's apt state is touched.
# shellcheck shell=bash

# suite_sources_<form> CODENAME SUITES FILE...: deb-src entries of SUITES for every source in FILEs that serves CODENAME,
# in the one-line or the deb822 form, with their options (signed-by, trusted, inline keys).
suite_sources_line() {  # CODENAME SUITES FILE...
  local codename=$1 suites=$2
  shift 2
  awk -v codename="$codename" -v suites="$suites" '
    $1 == "deb" {
      options = ""; i = 2
      if ($i ~ /^\[/) { while ($i !~ /\]$/ && i < NF) options = options " " $(i++); options = options " " $(i++) }
      if ($(i + 1) != codename) next
      n = split(suites, suite, " ")
      for (k = 1; k <= n; k++) print "deb-src" options " " $i " " suite[k] " main"
    }' "$@"
}

suite_sources_deb822() {  # CODENAME SUITES FILE...
  local codename=$1 suites=$2
  shift 2
  awk -v codename="$codename" -v suites="$suites" '
    function flush() {
      if (wanted && enabled) printf "Types: deb-src\nSuites: %s\nComponents: main\n%s\n", suites, kept
      kept = ""; wanted = 0; enabled = 1; dropping = 0
    }
    BEGIN { enabled = 1 }
    FNR == 1 && NR > 1 { flush() }
    /^#/ { next }
    /^[ \t]*$/ { flush(); next }
    /^[^ \t]/ {
      field = tolower($0); sub(/:.*/, "", field)
      value = $0; sub(/^[^:]*:/, "", value)
      dropping = field ~ /^(types|suites|components|architectures|enabled)$/
      if (field == "enabled" && tolower(value) ~ /no|false|off|0/) enabled = 0
    }
    /^[ \t]/ { value = $0 }
    field == "suites" { n = split(value, suite, " "); for (k = 1; k <= n; k++) if (suite[k] == codename) wanted = 1 }
    !dropping { kept = kept $0 "\n" }
    END { flush() }' "$@"
}

# newest_in_range PACKAGE LOWEST BELOW: the highest version on offer with LOWEST <= version < BELOW.
newest_in_range() {
  local best='' version
  while read -r version; do
    dpkg --compare-versions "$version" ge "$2" && dpkg --compare-versions "$version" lt "$3" || continue
    [ -n "$best" ] && dpkg --compare-versions "$version" le "$best" || best=$version
  done < <(apt-cache "${private_apt[@]}" showsrc --only-source "$1" 2>/dev/null | sed -n 's/^Version: //p')
  echo "$best"
}

fetch_source() {  # PACKAGE LOWEST BELOW: unpacks the upstream tarball into $work/PACKAGE
  local package=$1 version tarball
  version=$(newest_in_range "$@")
  [ -n "$version" ] || die 1 "no $package >= $2 and < $3 in the Debian suites $source_suites: is the mirror complete?"
  say "fetching the source of $package $version; the log: $work/$package.log"
  (cd "$work/download" && apt-get -q "${private_apt[@]}" source --download-only "$package=$version" >"$work/$package.log" 2>&1) ||
    { cat "$work/$package.log" >&2; die 1 "fetching the source of $package $version failed (see above)"; }
  # Upstream's own tarball without Debian's patches: they replace bundled third-party files by other packages.
  tarball=$(printf '%s\n' "$work/download/${package}"_*.orig.tar.* | grep -v '\.asc$' | head -n 1)
  mkdir -p "$work/$package"
  tar -xf "$tarball" -C "$work/$package" --strip-components=1
  say "$package $version"
  versions[$package]=$version
  if [ "$package" = librdkafka ] && dpkg --compare-versions "$version" lt 2.10; then
    say "this works, but 2.10 rebalances better: when the suite forky answers, remove $prefix and run again"
  fi
}

declare -A build_time=([librdkafka]="about 2 minutes on 2 cores" [hiredis]="a few seconds")

build_source() {  # PACKAGE CMAKE_OPTION...
  local package=$1 build="$work/$1-build"
  shift
  say "building $package with $(jobs) compilers, ${build_time[$package]}; its log: $work/$package.log"
  {
    cmake -S "$work/$package" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$prefix" \
      -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_POSITION_INDEPENDENT_CODE=ON "$@" &&
      cmake --build "$build" -j "$(jobs)" && cmake --install "$build"
  } >"$work/$package.log" 2>&1 || { tail -n 40 "$work/$package.log" >&2; die 1 "building $package failed (see above)"; }
  # Both licences want their text to go with the program; the version is for the bill of materials.
  mkdir -p "$prefix/share/licenses/$package"
  find "$work/$package" -maxdepth 1 \( -name 'LICENSES.txt' -o -name COPYING \) -exec cp {} "$prefix/share/licenses/$package/" \;
  echo "$package ${versions[$package]}" >>"$prefix/versions"
}

# install_source_packages PREFIX
install_source_packages() {
  local work codename recipe stamp="$1/stamp" list
  local -A versions=()
  prefix=$1
  source_suites="trixie forky"
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  # The recipe's own text is part of the stamp: a change of this file builds again.
  recipe="$codename $(sha256sum <"${BASH_SOURCE[0]}" | cut -c1-16)"
  if [ "$(cat "$stamp" 2>/dev/null)" = "$recipe" ]; then
    say "librdkafka and hiredis are built in $prefix"
    return 0
  fi
  work=$(mktemp -d)
  mkdir -p "$work"/{download,lists/partial,cache/archives/partial,state} "$work"/etc/{sources.list.d,preferences.d}
  : >"$work/status"
  for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ ! -f "$list" ] || suite_sources_line "$codename" "$source_suites" "$list"
  done | sort -u >"$work/etc/sources.list"
  for list in /etc/apt/sources.list.d/*.sources; do
    [ ! -f "$list" ] || suite_sources_deb822 "$codename" "$source_suites" "$list"
  done >"$work/etc/sources.list.d/suites.sources"
  if [ ! -s "$work/etc/sources.list" ] && [ ! -s "$work/etc/sources.list.d/suites.sources" ]; then
    die 1 "no apt source of this machine serves $codename: put one into /etc/apt/sources.list"
  fi
  for list in auth.conf auth.conf.d trusted.gpg trusted.gpg.d; do
    [ ! -e "/etc/apt/$list" ] || ln -s "/etc/apt/$list" "$work/etc/$list"
  done
  # An index past its date is taken: it is signed all the same, and a stale one costs at most a newer version.
  private_apt=(-o Acquire::Check-Valid-Until=false -o Dir::Etc="$work/etc" -o Dir::Etc::sourcelist=sources.list -o Dir::Etc::sourceparts=sources.list.d
    -o Dir::State="$work/state" -o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status"
    -o Dir::Cache="$work/cache" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3 -o Acquire::Languages=none)
  say "reading the package lists of $source_suites, some 10 seconds to a minute; the log: $work/update.log"
  apt-get -q "${private_apt[@]}" update >"$work/update.log" 2>&1 ||
    say "a suite of $source_suites did not answer; going on with the others"
  fetch_source librdkafka 2.8 3
  fetch_source hiredis 1.0 2
  rm -rf "$prefix"
  mkdir -p "$prefix"
  # WITH_SASL would bring Cyrus (GSSAPI); SCRAM and OAUTHBEARER need OpenSSL alone, but are only built where they are
  # asked for.
  build_source librdkafka -DRDKAFKA_BUILD_STATIC=ON -DRDKAFKA_BUILD_EXAMPLES=OFF -DRDKAFKA_BUILD_TESTS=OFF \
    -DENABLE_LZ4_EXT=ON -DWITH_ZLIB=ON -DWITH_ZSTD=ON -DWITH_SSL=ON -DWITH_SASL=OFF \
    -DWITH_SASL_SCRAM=ON -DWITH_SASL_OAUTHBEARER=ON -DWITH_CURL=OFF
  build_source hiredis -DBUILD_SHARED_LIBS=OFF -DENABLE_SSL=ON -DDISABLE_TESTS=ON
  rm -rf "$work"
  echo "$recipe" >"$stamp"
}
