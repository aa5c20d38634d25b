{{- define "troupe.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* 52 characters: room for the suffixes of the parts and of a StatefulSet's pods. */}}
{{- define "troupe.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "troupe.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "troupe.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What all parts of a release have in common, and what a selector may ask for. */}}
{{- define "troupe.releaseLabels" -}}
app.kubernetes.io/name: {{ include "troupe.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The pods that answer requests; jobs of the release have another component. */}}
{{- define "troupe.selectorLabels" -}}
{{ include "troupe.releaseLabels" . }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "troupe.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "troupe.releaseLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: troupe
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of pods: not the chart's version, which would roll them with every chart. */}}
{{- define "troupe.podLabels" -}}
{{ include "troupe.releaseLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
{{- with mergeOverwrite (deepCopy .Values.commonLabels) .Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "troupe.image" -}}
{{- $name := .Values.image.repository -}}
{{- with .Values.image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end -}}
{{- if .Values.image.digest -}}
{{ $name }}@{{ .Values.image.digest }}
{{- else -}}
{{ $name }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "troupe.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "troupe.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "troupe.adminSecretName" -}}
{{ .Values.admin.secretName | default (printf "%s-admin" (include "troupe.fullname" .)) }}
{{- end -}}

{{/* Made by the chart they are the release's own; without content each is one that exists, by its known name. */}}
{{- define "troupe.redisSecretName" -}}
{{ .Values.redis.secretName | default (ternary (printf "%s-redis" (include "troupe.fullname" .)) "redis-config" (ne .Values.redis.host "")) }}
{{- end -}}
{{- define "troupe.eventHubSecretName" -}}
{{ .Values.eventHub.secretName | default (ternary (printf "%s-eventhub" (include "troupe.fullname" .)) "eventhub-secret" (ne .Values.eventHub.connectionString "")) }}
{{- end -}}

{{/* Of the Secrets that the values have the content of: other content is another pod. The random token is not among them. */}}
{{- define "troupe.secretsChecksum" -}}
{{- $all := list -}}
{{- if and .Values.eventHub.enabled .Values.eventHub.connectionString }}{{ $all = append $all .Values.eventHub.connectionString }}{{ end -}}
{{- if and .Values.redis.enabled .Values.redis.host }}{{ $all = concat $all (list .Values.redis.host (toString .Values.redis.port) .Values.redis.password) }}{{ end -}}
{{- if $all }}{{ toJson $all | sha256sum }}{{ end -}}
{{- end -}}

{{/* A number that counts also where the values are those of a release that did not know it (--reuse-values): list VALUE DEFAULT. */}}
{{- define "troupe.number" -}}
{{- if kindIs "invalid" (first .) }}{{ last . }}{{ else }}{{ first . | int64 }}{{ end -}}
{{- end -}}
{{- define "troupe.preStopDelay" -}}{{ include "troupe.number" (list .Values.preStopDelay 5) }}{{- end -}}

{{/* How many pods an autoscaled workload has now. The field can't be left out: the API server would make it 1 when it goes. Empty
     where no cluster is asked (helm template, Argo CD). */}}
{{- define "troupe.liveReplicas" -}}
{{- $kind := ternary "StatefulSet" "Deployment" (eq .Values.workload "statefulset") -}}
{{- $least := int .Values.autoscaling.minReplicas -}}
{{- $live := lookup "apps/v1" $kind .Release.Namespace (include "troupe.fullname" .) -}}
{{- if $live -}}
{{- max $least (int ($live.spec).replicas) -}}
{{- else if lookup "v1" "ConfigMap" .Release.Namespace "kube-root-ca.crt" -}}
{{- $least -}}
{{- end -}}
{{- end -}}

{{- define "troupe.modelsClaimName" -}}
{{ .Values.models.pvc.claimName | default (printf "%s-models" (include "troupe.fullname" .)) }}
{{- end -}}

{{/* "true" where an optional kind is wanted: dict "root" $ "enabled" true|false|"auto" "api" GROUP/VERSION. */}}
{{- define "troupe.wanted" -}}
{{- if eq (toString .enabled) "auto" -}}
{{- if .root.Capabilities.APIVersions.Has .api }}true{{ end -}}
{{- else if .enabled }}true{{ end -}}
{{- end -}}

{{/* Whole seconds, rounded up, of a duration such as 1h30m, 250ms or 30s. */}}
{{- define "troupe.seconds" -}}
{{- $ns := 0.0 -}}
{{- $unit := dict "ns" 1e-9 "us" 1e-6 "ms" 1e-3 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0 -}}
{{- range regexFindAll "[0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h|d)" (toString .) -1 -}}
{{- $number := regexFind "^[0-9]+(\\.[0-9]+)?" . | float64 -}}
{{- $ns = addf $ns (mulf $number (get $unit (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- ceil $ns | int -}}
{{- end -}}

{{/* Thousandths of a CPU: 1500m, 2, "0.5". */}}
{{- define "troupe.millicpu" -}}
{{- $q := toString . -}}
{{- if hasSuffix "m" $q -}}{{ trimSuffix "m" $q | float64 | ceil | int }}
{{- else -}}{{ mulf (float64 $q) 1000 | ceil | int }}{{- end -}}
{{- end -}}

{{/* Bytes, in MiB rounded down, of a Kubernetes quantity (Gi, M) or a size of Troupe's (MiB, MB). */}}
{{- define "troupe.mebibytes" -}}
{{- $q := toString . -}}
{{- $number := regexFind "^[0-9]+(\\.[0-9]+)?" $q | float64 -}}
{{- $suffix := regexReplaceAll "^[0-9.]+" $q "" | trimSuffix "B" -}}
{{- $unit := dict "" 1.0 "k" 1000.0 "M" 1000000.0 "G" 1000000000.0 "T" 1000000000000.0 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 -}}
{{- if not (hasKey $unit $suffix) }}{{ fail (printf "the quantity %s is not understood: write it with Mi or Gi" $q) }}{{ end -}}
{{- divf (mulf $number (get $unit $suffix)) 1048576.0 | floor | int64 -}}
{{- end -}}

{{/* CPUs that a pod may use, rounded up; 0 without a limit. */}}
{{- define "troupe.cpus" -}}
{{- $limits := .Values.resources.limits | default dict -}}
{{- if hasKey $limits "cpu" -}}
{{- divf (include "troupe.millicpu" $limits.cpu | float64) 1000 | ceil | int -}}
{{- else }}0{{ end -}}
{{- end -}}

{{/* Sets an option that the values leave open: dict "in" CONFIG "section" .. "option" .. "value" .. */}}
{{- define "troupe.default" -}}
{{- $section := get .in .section | default dict -}}
{{- if not (hasKey $section .option) }}{{ $_ := set $section .option .value }}{{ end -}}
{{- $_ := set .in .section $section -}}
{{- end -}}

{{/* troupe.yaml: what the values say, and the paths and thread counts that follow from them. */}}
{{- define "troupe.config" -}}
{{- $c := deepCopy (.Values.config | default dict) -}}
{{- range $section, $options := $c }}{{ if kindIs "invalid" $options }}{{ $_ := unset $c $section }}{{ end }}{{ end -}}
{{- $v := .Values -}}
{{- $secrets := "/run/secrets/troupe" -}}
{{- /* Models of the registry alone: those that the image may have are left out. */ -}}
{{- include "troupe.default" (dict "in" $c "section" "models" "option" "directory" "value" (ternary "/var/lib/troupe/models" "/models" (eq $v.models.source "mlflow"))) -}}
{{- include "troupe.default" (dict "in" $c "section" "http" "option" "port" "value" 8080) -}}
{{- include "troupe.default" (dict "in" $c "section" "grpc" "option" "port" "value" 8081) -}}
{{- include "troupe.default" (dict "in" $c "section" "metrics" "option" "port" "value" 8000) -}}
{{- if has "IPv6" (($v.service).ipFamilies | default list) -}}
{{- range $door := list "http" "grpc" "metrics" }}{{ include "troupe.default" (dict "in" $c "section" $door "option" "bind" "value" "::") }}{{ end -}}
{{- end -}}
{{- include "troupe.default" (dict "in" $c "section" "kafka" "option" "enabled" "value" true) -}}
{{- include "troupe.default" (dict "in" $c "section" "http" "option" "enabled" "value" true) -}}
{{- include "troupe.default" (dict "in" $c "section" "grpc" "option" "enabled" "value" true) -}}
{{- include "troupe.default" (dict "in" $c "section" "drain" "option" "deadline" "value" "30s") -}}
{{- if or (eq $v.models.source "mlflow") (hasKey $c "mlflow") -}}
{{- include "troupe.default" (dict "in" $c "section" "mlflow" "option" "cache_directory" "value" "/var/lib/troupe/registry") -}}
{{- end -}}
{{- with $v.models.mlflow.passwordKey }}{{ include "troupe.default" (dict "in" $c "section" "mlflow" "option" "password_file" "value" (printf "%s/mlflow/%s" $secrets .)) }}{{ end -}}
{{- with $v.models.mlflow.tokenKey }}{{ include "troupe.default" (dict "in" $c "section" "mlflow" "option" "token_file" "value" (printf "%s/mlflow/%s" $secrets .)) }}{{ end -}}
{{- if $v.eventHub.enabled -}}
{{- $_ := set $c.kafka "eventhub" true -}}
{{- $_ := unset $c.kafka "brokers" -}}
{{- $_ := set $c.kafka "eventhub_connection_file" (printf "%s/eventhub/%s" $secrets $v.eventHub.key) -}}
{{- end -}}
{{- if and $c.kafka.enabled (ne (toString $c.kafka.brokers) "embedded") }}{{ include "troupe.default" (dict "in" $c "section" "kafka" "option" "ready_timeout" "value" "5m") }}{{ end -}}
{{- $properties := $c.kafka.properties | default dict -}}
{{- if $v.kafka.ca.secretName -}}
{{- if not (hasKey $properties "ssl.ca.location") }}{{ $_ := set $properties "ssl.ca.location" (printf "%s/kafka-ca/%s" $secrets $v.kafka.ca.key) }}{{ end -}}
{{- end -}}
{{- if and (eq $v.workload "statefulset") (ne (toString $c.kafka.brokers) "embedded") -}}
{{- if not (hasKey $properties "session.timeout.ms") }}{{ $_ := set $properties "session.timeout.ms" (mul 1000 (int $v.statefulset.sessionTimeout)) }}{{ end -}}
{{- end -}}
{{- if and $properties $c.kafka.enabled }}{{ $_ := set $c.kafka "properties" $properties }}{{ end -}}
{{- if $v.redis.enabled -}}
{{- $key := $v.redis.passwordKey | default (ternary "password" "" (ne $v.redis.password "")) -}}
{{- with $key }}{{ include "troupe.default" (dict "in" $c "section" "redis" "option" "password_file" "value" (printf "%s/redis/%s" $secrets .)) }}{{ end -}}
{{- end -}}
{{- if $v.admin.enabled }}{{ include "troupe.default" (dict "in" $c "section" "admin" "option" "token_file" "value" (printf "%s/admin/%s" $secrets $v.admin.key)) }}{{ end -}}
{{- if $v.apiKeys.secretName -}}
{{- include "troupe.default" (dict "in" $c "section" "auth" "option" "mode" "value" "required") -}}
{{- include "troupe.default" (dict "in" $c "section" "auth" "option" "keys_file" "value" (printf "%s/api-keys/%s" $secrets $v.apiKeys.key)) -}}
{{- end -}}
{{- if $v.tls.secretName -}}
{{- range $door := list "http" "grpc" -}}
{{- include "troupe.default" (dict "in" $c "section" $door "option" "tls_cert" "value" (printf "%s/tls/tls.crt" $secrets)) -}}
{{- include "troupe.default" (dict "in" $c "section" $door "option" "tls_key" "value" (printf "%s/tls/tls.key" $secrets)) -}}
{{- with $v.tls.clientCaKey }}{{ include "troupe.default" (dict "in" $c "section" $door "option" "tls_client_ca" "value" (printf "%s/tls/%s" $secrets .)) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $cpus := include "troupe.cpus" . | int -}}
{{- if $cpus -}}
{{- include "troupe.default" (dict "in" $c "section" "scheduler" "option" "slots" "value" $cpus) -}}
{{- $doors := max 1 (div $cpus 4) -}}
{{- include "troupe.default" (dict "in" $c "section" "http" "option" "threads" "value" $doors) -}}
{{- include "troupe.default" (dict "in" $c "section" "grpc" "option" "threads" "value" $doors) -}}
{{- end -}}
{{- toYaml $c -}}
{{- end -}}

{{/* The configuration is part of the pod, as the annotation that this file shows: an old pod keeps the old one, and going back brings it back. */}}
{{- define "troupe.configAnnotation" -}}
troupe.yaml: |
  {{- include "troupe.config" . | nindent 2 }}
{{- end -}}
{{- define "troupe.configVolume" -}}
- name: config
  downwardAPI:
    items:
      - {path: troupe.yaml, fieldRef: {fieldPath: "metadata.annotations['troupe.yaml']"}}
{{- end -}}

{{/* Ports that Kafka's brokers are asked at, as a YAML list; empty where there is no broker outside the pod. */}}
{{- define "troupe.kafkaPorts" -}}
{{- $c := include "troupe.config" . | fromYaml -}}
{{- $ports := list -}}
{{- if $c.kafka.enabled -}}
{{- range .Values.networkPolicy.kafka.ports }}{{ $ports = append $ports (int .) }}{{ end -}}
{{- if $c.kafka.eventhub -}}
{{- $ports = append $ports 9093 -}}
{{- else -}}
{{- $brokers := $c.kafka.brokers -}}
{{- if not (kindIs "slice" $brokers) }}{{ $brokers = splitList "," (toString $brokers) }}{{ end -}}
{{- range $brokers -}}
{{- $broker := trim . -}}
{{- if and $broker (ne $broker "embedded") -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $broker) -}}
{{- $ports = append $ports (int ($port | default "9092")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | toYaml -}}
{{- end -}}

{{- define "troupe.brokers" -}}
{{- $brokers := (include "troupe.config" . | fromYaml).kafka.brokers | default "" -}}
{{- if kindIs "slice" $brokers }}{{ join "," $brokers }}{{ else }}{{ $brokers }}{{ end -}}
{{- end -}}

{{/* The port of an address such as http://mlflow:5000/path. */}}
{{- define "troupe.urlPort" -}}
{{- $host := urlParse (toString .) -}}
{{- $port := regexFind ":[0-9]+$" $host.host | trimPrefix ":" -}}
{{- $port | default (ternary "443" "80" (eq $host.scheme "https")) -}}
{{- end -}}

{{/* Restricted also where the values are those of a release that did not know these (--reuse-values). */}}
{{- define "troupe.podSecurity" -}}
{{- toYaml (.Values.podSecurityContext | default (dict "runAsNonRoot" true "runAsUser" 10001 "runAsGroup" 10001 "fsGroup" 10001 "fsGroupChangePolicy" "OnRootMismatch" "seccompProfile" (dict "type" "RuntimeDefault"))) -}}
{{- end -}}

{{- define "troupe.containerSecurity" -}}
{{- toYaml (.Values.securityContext | default (dict "runAsNonRoot" true "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")))) -}}
{{- end -}}

{{/* Environment of every container that runs troupe. */}}
{{- define "troupe.env" -}}
{{- if .Values.redis.enabled }}
- name: TROUPE_REDIS_HOST
  valueFrom: {secretKeyRef: {name: {{ include "troupe.redisSecretName" . }}, key: host}}
- name: TROUPE_REDIS_PORT
  valueFrom: {secretKeyRef: {name: {{ include "troupe.redisSecretName" . }}, key: port}}
{{- end }}
{{- if .Values.kafka.auth.secretName }}
- name: TROUPE_KAFKA_PROPERTIES_SASL_USERNAME
  valueFrom: {secretKeyRef: {name: {{ .Values.kafka.auth.secretName }}, key: {{ .Values.kafka.auth.usernameKey }}}}
- name: TROUPE_KAFKA_PROPERTIES_SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.kafka.auth.secretName }}, key: {{ .Values.kafka.auth.passwordKey }}}}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "troupe.mounts" -}}
- {name: config, mountPath: /etc/troupe, readOnly: true}
- {name: state, mountPath: /var/lib/troupe}
- {name: tmp, mountPath: /tmp}
{{- $directory := (include "troupe.config" . | fromYaml).models.directory }}
{{- if or (eq .Values.models.source "pvc") (eq .Values.models.source "image") }}
- {name: models, mountPath: {{ $directory }}, readOnly: true}
{{- end }}
{{- $secrets := include "troupe.secretMounts" . | fromYamlArray }}
{{- range $secrets }}
- {name: {{ .name }}, mountPath: /run/secrets/troupe/{{ .name }}, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Secrets that are files, each with the name of its folder. */}}
{{- define "troupe.secretMounts" -}}
{{- $v := .Values -}}
{{- $all := list -}}
{{- if $v.eventHub.enabled }}{{ $all = append $all (dict "name" "eventhub" "secret" (include "troupe.eventHubSecretName" .)) }}{{ end -}}
{{- if and $v.redis.enabled (or $v.redis.password $v.redis.passwordKey) }}{{ $all = append $all (dict "name" "redis" "secret" (include "troupe.redisSecretName" .)) }}{{ end -}}
{{- if $v.admin.enabled }}{{ $all = append $all (dict "name" "admin" "secret" (include "troupe.adminSecretName" .)) }}{{ end -}}
{{- if $v.apiKeys.secretName }}{{ $all = append $all (dict "name" "api-keys" "secret" $v.apiKeys.secretName) }}{{ end -}}
{{- if $v.tls.secretName }}{{ $all = append $all (dict "name" "tls" "secret" $v.tls.secretName) }}{{ end -}}
{{- if $v.kafka.ca.secretName }}{{ $all = append $all (dict "name" "kafka-ca" "secret" $v.kafka.ca.secretName) }}{{ end -}}
{{- if $v.models.mlflow.secretName }}{{ $all = append $all (dict "name" "mlflow" "secret" $v.models.mlflow.secretName) }}{{ end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* Volumes; "state" is left out where a StatefulSet has a claim for it: dict "root" $ "claimed" bool. */}}
{{- define "troupe.volumes" -}}
{{- $v := .root.Values -}}
{{ include "troupe.configVolume" . }}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
{{- if not .claimed }}
- name: state
  emptyDir: {}
{{- end }}
{{- if eq $v.models.source "pvc" }}
- name: models
  persistentVolumeClaim: {claimName: {{ include "troupe.modelsClaimName" .root }}, readOnly: true}
{{- else if eq $v.models.source "image" }}
- name: models
  emptyDir: {}
{{- end }}
{{- range (include "troupe.secretMounts" .root | fromYamlArray) }}
- name: {{ .name }}
  secret: {secretName: {{ .secret }}, defaultMode: 0440}
{{- end }}
{{- with $v.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "troupe.initContainers" -}}
{{- if or (eq .Values.models.source "image") .Values.initContainers }}
initContainers:
  {{- with .Values.initContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- if eq .Values.models.source "image" }}
  - name: models
    image: {{ .Values.models.image.reference }}
    imagePullPolicy: {{ .Values.models.image.pullPolicy }}
    command: [cp, -R, {{ printf "%s/." (trimSuffix "/" .Values.models.image.path) }}, /target/]
    securityContext:
      {{- include "troupe.containerSecurity" . | nindent 6 }}
    resources:
      requests: {cpu: 50m, memory: 64Mi, ephemeral-storage: 64Mi}
      limits: {cpu: 500m, memory: 256Mi, ephemeral-storage: 1Gi}
    volumeMounts:
      - {name: models, mountPath: /target}
{{- end }}
{{- end -}}

{{/* "true" where `helm test` asks the service. Where it wants TLS or a key, only with what check.args or check.env has for that;
     over gRPC only with a model that is named. */}}
{{- define "troupe.scoreCheck" -}}
{{- $c := include "troupe.config" . | fromYaml -}}
{{- $k := .Values.check -}}
{{- if and $k.enabled (ne .Values.workload "none") (or $c.http.enabled $c.grpc.enabled) (ne (toString $k.score) "false") -}}
{{- $guarded := or (ne .Values.tls.secretName "") (eq (($c.auth).mode | default "off") "required") -}}
{{- $named := or $c.http.enabled $k.model (get $c.models "default") -}}
{{- if and $named (or (not $guarded) $k.args $k.env) }}true{{ end -}}
{{- end -}}
{{- end -}}

{{- define "troupe.ipFamilies" -}}
{{- with .Values.service.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.service.ipFamilies }}
ipFamilies: {{ toJson . }}
{{- end }}
{{- end -}}

{{/* Where a release's own pods find the doors. */}}
{{- define "troupe.httpPort" -}}
{{- .Values.service.httpPort | default (include "troupe.config" . | fromYaml).http.port | int -}}
{{- end -}}
{{- define "troupe.grpcPort" -}}
{{- .Values.service.grpcPort | default (include "troupe.config" . | fromYaml).grpc.port | int -}}
{{- end -}}

{{/* Where a pod finds names, and what runs it. */}}
{{- define "troupe.podSurroundings" -}}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* What the pods of the release's jobs have in common. */}}
{{- define "troupe.jobPod" -}}
restartPolicy: Never
serviceAccountName: {{ include "troupe.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with include "troupe.podSurroundings" . | trim }}
{{- . | nindent 0 }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "troupe.podSecurity" . | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "troupe.jobContainer" -}}
image: {{ include "troupe.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [/usr/bin/troupe]
securityContext:
  {{- include "troupe.containerSecurity" . | nindent 2 }}
{{- with include "troupe.env" . | trim }}
env:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
