# KEDA's controllers, built from its Go module, and from the module what its installation gives the API server: custom resources, roles, webhooks.
# find_go and keda_version are deploy_tools.sh's.
# shellcheck shell=bash

keda_programs=(operator adapter webhooks)

# install_keda DIRECTORY: operator, adapter, webhooks and config/. A download of 0.3 GB and as much on the disk; some five minutes of two cores, once.
install_keda() {
  local directory=$1 module program
  if [ "$(cat "$directory/stamp" 2>/dev/null)" = "$keda_version" ]; then
    say "KEDA $keda_version is in $directory"
    return 0
  fi
  find_go "$root/.deps/tools" || die 1 "there is no Go 1.21 or newer, which builds KEDA, and PyPI gave none (see above)"
  say "fetching and building KEDA $keda_version, some 0.3 GB"
  mkdir -p "$directory"
  module=$(cd "$directory" && "$go_command" mod download -json "github.com/kedacore/keda/v2@$keda_version" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)".*/\1/p')
  [ -n "$module" ] || die 1 "github.com/kedacore/keda/v2 $keda_version could not be fetched from $("$go_command" env GOPROXY)"
  rm -rf "$directory/config"
  cp -r "$module/config" "$directory/config"
  chmod -R u+w "$directory/config"
  for program in "${keda_programs[@]}"; do
    [ ! -x "$directory/$program" ] || continue
    say "building KEDA's $program ($((SECONDS - section_start)) s so far; the first takes most of the time, which is clients of every cloud)"
    # In the module's own folder, whose go.mod pins the versions of Kubernetes' libraries.
    (cd "$module" && CGO_ENABLED=0 "$go_command" build -mod=readonly -buildvcs=false -p "$(jobs)" -trimpath -o "$directory/$program.new" \
      -ldflags "-s -w -X=github.com/kedacore/keda/v2/version.Version=${keda_version#v}" "./cmd/$program") >&2 || die 1 "building KEDA's $program failed (see above)"
    mv "$directory/$program.new" "$directory/$program"
  done
  echo "$keda_version" >"$directory/stamp"
}
