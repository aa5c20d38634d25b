# Kubernetes' own programs, built from its Go modules: an API server, controllers, a kubelet without a download from
# anywhere but the module proxy. Its go.mod points to ./staging folders that the module does not contain; a main module of
# our own points to what is published of them.
# find_go is deploy_tools.sh's.
# shellcheck shell=bash

control_plane_version=1.34.3
control_plane_programs=(kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl)

# install_control_plane DIRECTORY: 0.5 GB; half an hour of two cores, once.
install_control_plane() {
  local bin=$1 stamp="$1/stamp" work module staging program missing=
  for program in "${control_plane_programs[@]}"; do [ -x "$bin/$program" ] || missing=1; done
  if [ -z "$missing" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$control_plane_version" ]; then
    say "Kubernetes $control_plane_version is in $bin"
    return 0
  fi
  find_go "$root/.deps/tools" || die 1 "there is no Go 1.21 or newer, which builds Kubernetes, and PyPI gave none (see above)"
  mkdir -p "$bin"
  work=$(mktemp -d)
  module=$(cd "$work" && "$go_command" mod download -json "k8s.io/kubernetes@v$control_plane_version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  [ -n "$module" ] || die 1 "k8s.io/kubernetes v$control_plane_version could not be fetched from $("$go_command" env GOPROXY)"
  staging=v0.${control_plane_version#1.}
  {
    echo "module controlplane"
    grep -E '^go ' "$module/go.mod"
    echo "require k8s.io/kubernetes v$control_plane_version"
    sed -n "s,^[[:space:]]*\(k8s.io/[a-z0-9-]*\) => ./staging.*,replace \1 => \1 $staging,p" "$module/go.mod" | sort -u
  } >"$work/go.mod"
  cp "$module/go.sum" "$work/go.sum"
  {
    printf '//go:build tools\n\npackage tools\n\nimport (\n'
    for program in "${control_plane_programs[@]}"; do printf '\t_ "k8s.io/kubernetes/cmd/%s"\n' "$program"; done
    echo ')'
  } >"$work/tools.go"
  say "fetching what Kubernetes needs"
  (cd "$work" && "$go_command" mod tidy >tidy.log 2>&1) || { tail -n 20 "$work/tidy.log" >&2; die 1 "go mod tidy failed (see above)"; }
  for program in "${control_plane_programs[@]}"; do
    if [ -x "$bin/$program" ] && "$bin/$program" ${version_word[$program]:---version} 2>/dev/null | grep -qF "v$control_plane_version"; then
      continue
    fi
    say "building $program ($((SECONDS - section_start)) s so far; the first takes a quarter of an hour on two cores, the others less)"
    (cd "$work" && CGO_ENABLED=0 "$go_command" build -p "$(jobs)" -trimpath -o "$bin/$program.new" -ldflags "-s -w
      -X k8s.io/component-base/version.gitVersion=v$control_plane_version -X k8s.io/component-base/version.gitMajor=1
      -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$control_plane_version")" "k8s.io/kubernetes/cmd/$program") >&2 ||
      die 1 "building $program failed (see above)"
    mv "$bin/$program.new" "$bin/$program"
  done
  rm -rf "$work"
  echo "$control_plane_version" >"$stamp"
}
declare -A version_word=([kubectl]="version --client")
