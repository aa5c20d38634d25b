{{/* What the schema can't say: values that are each right and do not go together. Every message names the value and the remedy. */}}
{{- define "troupe.validate" -}}
{{- $v := .Values -}}
{{- $c := include "troupe.config" . | fromYaml -}}
{{- $a := $v.autoscaling -}}
{{- $requests := $v.resources.requests | default dict -}}
{{- $limits := $v.resources.limits | default dict -}}
{{- if and (hasKey $requests "cpu") (hasKey $limits "cpu") -}}
{{- if gt (include "troupe.millicpu" $requests.cpu | int) (include "troupe.millicpu" $limits.cpu | int) -}}
{{- fail (printf "resources.requests.cpu (%v) is above resources.limits.cpu (%v): lower the request or raise the limit" $requests.cpu $limits.cpu) -}}
{{- end -}}
{{- end -}}
{{- if hasKey $limits "memory" -}}
{{- $limit := include "troupe.mebibytes" $limits.memory | int64 -}}
{{- if and (hasKey $requests "memory") (gt (include "troupe.mebibytes" $requests.memory | int64) $limit) -}}
{{- fail (printf "resources.requests.memory (%v) is above resources.limits.memory (%v): lower the request or raise the limit" $requests.memory $limits.memory) -}}
{{- end -}}
{{- $buffers := include "troupe.mebibytes" (($c.memory).limit | default "160MiB") | int64 -}}
{{- if ge $buffers $limit -}}
{{- fail (printf "config.memory.limit (%d MiB, queues and buffers alone) leaves nothing of resources.limits.memory (%v) for models and the process: raise the limit of the container" $buffers $limits.memory) -}}
{{- end -}}
{{- end -}}
{{- if not (or $c.kafka.enabled $c.http.enabled $c.grpc.enabled) -}}
{{- fail "config.kafka.enabled, config.http.enabled and config.grpc.enabled are all false: nothing could be asked" -}}
{{- end -}}
{{- range $section := list "http" "grpc" "metrics" -}}
{{- if eq (int (get $c $section).port) 0 -}}
{{- fail (printf "config.%s.port is 0 (any free port): a pod needs one that probes and services know" $section) -}}
{{- end -}}
{{- end -}}
{{- $ports := list (int $c.metrics.port) -}}
{{- range $door := list "http" "grpc" -}}
{{- if (get $c $door).enabled -}}
{{- $port := int (get $c $door).port -}}
{{- if has $port $ports }}{{ fail (printf "config.%s.port %d is taken by another port of the pod" $door $port) }}{{ end -}}
{{- $ports = append $ports $port -}}
{{- end -}}
{{- end -}}
{{- if and $v.eventHub.enabled (not $c.kafka.enabled) -}}
{{- fail "eventHub.enabled has no effect with config.kafka.enabled: false" -}}
{{- end -}}
{{- range $option := list "instance_id" "transactional_id" -}}
{{- if get $c.kafka $option -}}
{{- fail (printf "config.kafka.%s would be the same in every pod, and they would put each other out: leave it out (workload: statefulset gives each pod its own)" $option) -}}
{{- end -}}
{{- end -}}
{{- if gt (include "troupe.config" . | len) 200000 -}}
{{- fail (printf "config has %d bytes; it is an annotation of the pods, which have room for 256 KiB of them: put long texts into files (extraVolumes) that options name" (include "troupe.config" . | len)) -}}
{{- end -}}
{{- if and $v.state.persistent (ne $v.workload "statefulset") -}}
{{- fail "state.persistent needs workload: statefulset, where each pod has a claim of its own" -}}
{{- end -}}
{{- if and (eq $v.models.source "mlflow") (not (and ($c.mlflow).uri ($c.mlflow).models)) -}}
{{- fail "models.source: mlflow needs config.mlflow.uri and config.mlflow.models (such as [models:/churn@champion])" -}}
{{- end -}}
{{- if and (eq $v.models.source "image") (not $v.models.image.reference) -}}
{{- fail "models.source: image needs models.image.reference" -}}
{{- end -}}
{{- if and (or $v.models.mlflow.passwordKey $v.models.mlflow.tokenKey) (not $v.models.mlflow.secretName) -}}
{{- fail "models.mlflow.passwordKey and tokenKey are keys of models.mlflow.secretName, which is empty" -}}
{{- end -}}
{{- if and (ne $a.mode "none") (ne $v.workload "none") -}}
{{- if gt (int $a.minReplicas) (int $a.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas (%d) is above autoscaling.maxReplicas (%d)" (int $a.minReplicas) (int $a.maxReplicas)) -}}
{{- end -}}
{{- if and (eq $a.mode "hpa") (lt (int $a.minReplicas) 1) -}}
{{- fail "autoscaling.minReplicas: 0 needs autoscaling.mode: keda; with hpa it is 1 at least" -}}
{{- end -}}
{{- if and (eq $a.mode "hpa") (not (or $a.cpu $a.memory $a.metrics)) -}}
{{- fail "autoscaling.mode: hpa has nothing to scale by: set autoscaling.cpu, autoscaling.memory or autoscaling.metrics" -}}
{{- end -}}
{{- if and $a.partitions $c.kafka.enabled (gt (int $a.maxReplicas) (int $a.partitions)) (not (or $c.http.enabled $c.grpc.enabled)) -}}
{{- fail (printf "autoscaling.maxReplicas (%d) is above the %d partitions of %s, and pods without a partition sit idle: add partitions or lower maxReplicas to %d" (int $a.maxReplicas) (int $a.partitions) ($c.kafka.requests_topic | default "inference-requests") (int $a.partitions)) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $a.mode "keda") (ne $v.workload "none") -}}
{{- $k := $a.keda -}}
{{- $byKafka := and $k.kafka.enabled $c.kafka.enabled -}}
{{- if and $byKafka (eq (toString $c.kafka.brokers) "embedded") -}}
{{- fail "autoscaling.keda.kafka can't see a broker inside the pod (config.kafka.brokers: embedded): switch it off or name a broker" -}}
{{- end -}}
{{- if and $byKafka $v.eventHub.enabled (not (and $v.eventHub.host $c.kafka.requests_topic)) -}}
{{- fail "autoscaling.keda.kafka with eventHub.enabled needs eventHub.host (NAMESPACE.servicebus.windows.net) and config.kafka.requests_topic: KEDA can't read the connection string" -}}
{{- end -}}
{{- if not (or $byKafka $k.prometheus.enabled $a.cpu $a.memory $k.triggers) -}}
{{- fail "autoscaling.mode: keda has no trigger: enable autoscaling.keda.kafka (with config.kafka.enabled), autoscaling.keda.prometheus, or set autoscaling.cpu" -}}
{{- end -}}
{{- if and (eq (int $a.minReplicas) 0) (not (or $byKafka $k.prometheus.enabled $k.triggers)) -}}
{{- fail "autoscaling.minReplicas: 0 needs a trigger besides cpu and memory, which nobody uses at 0 pods" -}}
{{- end -}}
{{- if and $k.fallback (not (or $byKafka $k.prometheus.enabled $k.triggers)) -}}
{{- fail "autoscaling.keda.fallback is for triggers whose server does not answer, and there is none besides cpu and memory: enable autoscaling.keda.kafka or autoscaling.keda.prometheus" -}}
{{- end -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $c.http.enabled) }}{{ fail "ingress.enabled needs config.http.enabled" }}{{ end -}}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) }}{{ fail "ingress.enabled needs ingress.hosts, such as [{host: troupe.example.org, paths: [{path: /, pathType: Prefix}]}]" }}{{ end -}}
{{- if and $v.gateway.enabled (not $v.gateway.parentRefs) }}{{ fail "gateway.enabled needs gateway.parentRefs, the Gateways that lead here: [{name: gateway, namespace: infra}]" }}{{ end -}}
{{- if and $v.gateway.enabled $v.gateway.grpc (not $c.grpc.enabled) }}{{ fail "gateway.grpc needs config.grpc.enabled" }}{{ end -}}
{{- if and ($c.faults).enabled (not (or $v.admin.enabled ($c.admin).token_file)) -}}
{{- fail "config.faults.enabled needs a token: set admin.enabled: true" -}}
{{- end -}}
{{- if $v.faultTest.enabled -}}
{{- if not (and $v.admin.enabled ($c.faults).enabled) }}{{ fail "faultTest.enabled needs admin.enabled: true and config.faults.enabled: true" }}{{ end -}}
{{- if and (ne $v.workload "statefulset") (not $v.faultTest.url) }}{{ fail "faultTest watches one pod: with a Deployment give its address as faultTest.url (http://10.1.2.3:8000), or use workload: statefulset" }}{{ end -}}
{{- end -}}
{{- if and $v.loadTest.enabled (ne $v.loadTest.door "kafka") (not (get $c $v.loadTest.door).enabled) -}}
{{- fail (printf "loadTest.door: %s needs config.%s.enabled" $v.loadTest.door $v.loadTest.door) -}}
{{- end -}}
{{- if and $v.loadTest.enabled (eq $v.loadTest.door "grpc") (not (or $v.loadTest.model (get $c.models "default"))) -}}
{{- fail "loadTest.door: grpc needs loadTest.model: every request over gRPC names its model" -}}
{{- end -}}
{{- if and $v.loadTest.enabled (eq $v.loadTest.door "kafka") (or (not $c.kafka.enabled) (eq (toString $c.kafka.brokers) "embedded")) -}}
{{- fail "loadTest.door: kafka needs a broker outside the pods: config.kafka.brokers" -}}
{{- end -}}
{{- include "troupe.validateSwitches" . -}}
{{- include "troupe.validateSecrets" . -}}
{{- include "troupe.validateAlerts" . -}}
{{- include "troupe.validateEnvironment" . -}}
{{- if and $v.retraining.enabled (not $v.retraining.image) }}{{ fail "retraining.enabled needs retraining.image, an image of yours that trains and registers a model" }}{{ end -}}
{{- if and $v.kserve.inferenceService.enabled (not $v.kserve.servingRuntime.enabled) (not $v.kserve.inferenceService.runtime) -}}
{{- fail "kserve.inferenceService.enabled needs a runtime: kserve.servingRuntime.enabled: true, or kserve.inferenceService.runtime with the name of one that exists" -}}
{{- end -}}
{{- if and $v.kserve.inferenceService.enabled (not $v.kserve.inferenceService.storageUri) }}{{ fail "kserve.inferenceService.enabled needs kserve.inferenceService.storageUri" }}{{ end -}}
{{- end -}}

{{/* Values that count only together with another one, and would do nothing without it. */}}
{{- define "troupe.validateSwitches" -}}
{{- $v := .Values -}}
{{- $c := include "troupe.config" . | fromYaml -}}
{{- range $value, $source := dict "claimName" "pvc" "reference" "image" -}}
{{- if and (get (get $v.models $source) $value) (ne $v.models.source $source) -}}
{{- fail (printf "models.%s.%s does nothing with models.source: %s: set models.source: %s" $source $value $v.models.source $source) -}}
{{- end -}}
{{- end -}}
{{- range $value := list "host" "password" "passwordKey" "secretName" -}}
{{- if and (get $v.redis $value) (not $v.redis.enabled) }}{{ fail (printf "redis.%s does nothing without redis.enabled: true" $value) }}{{ end -}}
{{- end -}}
{{- if and $v.redis.password (not $v.redis.host) -}}
{{- fail "redis.password is for the Secret that the chart makes, which needs redis.host; with a Secret of yours name its key as redis.passwordKey" -}}
{{- end -}}
{{- range $value := list "connectionString" "host" "secretName" -}}
{{- if and (get $v.eventHub $value) (not $v.eventHub.enabled) }}{{ fail (printf "eventHub.%s does nothing without eventHub.enabled: true" $value) }}{{ end -}}
{{- end -}}
{{- if and $v.admin.secretName (not $v.admin.enabled) }}{{ fail "admin.secretName does nothing without admin.enabled: true" }}{{ end -}}
{{- if and $v.tls.clientCaKey (not $v.tls.secretName) }}{{ fail "tls.clientCaKey is a key of tls.secretName, which is empty: without it the doors speak no TLS" }}{{ end -}}
{{- range $value := list "grpc" "parentRefs" "hostnames" -}}
{{- if and (get $v.gateway $value) (not $v.gateway.enabled) }}{{ fail (printf "gateway.%s does nothing without gateway.enabled: true" $value) }}{{ end -}}
{{- end -}}
{{- range $value := list "loadBalancerSourceRanges" "loadBalancerClass" -}}
{{- if and (get $v.service $value) (ne $v.service.type "LoadBalancer") }}{{ fail (printf "service.%s does nothing with service.type: %s: it is for LoadBalancer" $value $v.service.type) }}{{ end -}}
{{- end -}}
{{- if and $v.service.externalTrafficPolicy (eq $v.service.type "ClusterIP") }}{{ fail "service.externalTrafficPolicy needs service.type: NodePort or LoadBalancer" }}{{ end -}}
{{- if and $c.kafka.enabled (not $c.kafka.eventhub) -}}
{{- range splitList "," (include "troupe.brokers" .) -}}
{{- $port := regexFind ":[0-9]+$" (trim .) | trimPrefix ":" -}}
{{- if and $port (or (gt (int64 $port) 65535) (eq (int64 $port) 0)) }}{{ fail (printf "config.kafka.brokers: %s has the port %s; ports are 1 to 65535" (trim .) $port) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if and $v.redis.enabled (not $v.redis.host) $v.networkPolicy.enabled -}}
{{- with (lookup "v1" "Secret" .Release.Namespace (include "troupe.redisSecretName" .)).data -}}
{{- $port := get . "port" | b64dec -}}
{{- if and $port (ne $port (toString (int $v.redis.port))) -}}
{{- fail (printf "redis.port is %d, the Secret %s has port %s: set redis.port to it, or the NetworkPolicy keeps the pods away" (int $v.redis.port) (include "troupe.redisSecretName" $) $port) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The configuration is readable for everybody who may see pods. */}}
{{- define "troupe.validateSecrets" -}}
{{- $c := .Values.config | default dict -}}
{{- $clear := "is a secret in clear, and the configuration is none: " -}}
{{- range $option, $remedy := dict
  "redis.password" "set redis.enabled: true and redis.password (or redis.passwordKey of a Secret of yours)"
  "admin.token" "set admin.enabled: true, and admin.secretName where the token is one of yours"
  "mlflow.password" "put it into a Secret: models.mlflow.secretName and models.mlflow.passwordKey"
  "mlflow.token" "put it into a Secret: models.mlflow.secretName and models.mlflow.tokenKey"
  "kafka.eventhub_connection" "set eventHub.enabled: true and eventHub.connectionString (or eventHub.secretName)"
  "tracing.headers" "put it into a Secret, mount that by extraVolumes and extraVolumeMounts, and name the file as config.tracing.headers_file" -}}
{{- $path := splitList "." $option -}}
{{- if get (get $c (first $path) | default dict) (last $path) }}{{ fail (printf "config.%s %s%s" $option $clear $remedy) }}{{ end -}}
{{- end -}}
{{- $properties := (get $c "kafka" | default dict).properties -}}
{{- if kindIs "map" $properties -}}
{{- range $name, $_ := $properties -}}
{{- if has $name (list "sasl.password" "sasl.username") -}}
{{- if eq $name "sasl.password" }}{{ fail (printf "config.kafka.properties: %s %sput it into a Secret with the keys username and password, and name that as kafka.auth.secretName" $name $clear) }}{{ end -}}
{{- else if regexMatch "(password|secret|\\.key\\.pem)$" $name -}}
{{- fail (printf "config.kafka.properties: %s %sgive it as a variable out of a Secret, env: [{name: TROUPE_KAFKA_PROPERTIES_%s, valueFrom: {secretKeyRef: {name: ..., key: ...}}}]" $name $clear ($name | upper | replace "." "_")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "troupe.validateAlerts" -}}
{{- $m := .Values.monitoring.prometheusRule -}}
{{- $names := list -}}
{{- range (.Files.Get "files/rules/troupe.rules.yaml" | fromYaml).groups }}{{ range .rules }}{{ with .alert }}{{ $names = append $names . }}{{ end }}{{ end }}{{ end -}}
{{- range concat ($m.disabled | default list) (keys ($m.overrides | default dict)) }}
{{- if not (has . $names) }}{{ fail (printf "monitoring.prometheusRule: there is no alert %s; there are %s" . (join ", " $names)) }}{{ end }}
{{- end -}}
{{- end -}}

{{/* Variables win over the configuration, and probes, services, volumes and the grace period follow from the configuration. */}}
{{- define "troupe.validateEnvironment" -}}
{{- range .Values.env -}}
{{- if has .name (list "TROUPE_KAFKA_INSTANCE_ID" "TROUPE_KAFKA_TRANSACTIONAL_ID") -}}
{{- fail (printf "env: %s would be the same in every pod, and they would put each other out: leave it out (workload: statefulset gives each pod its own)" .name) -}}
{{- end -}}
{{- if regexMatch "^TROUPE_((HTTP|GRPC|METRICS)_(PORT|BIND)|(HTTP|GRPC|KAFKA)_ENABLED|DRAIN_DEADLINE|MODELS_DIRECTORY)$" .name -}}
{{- $words := .name | trimPrefix "TROUPE_" | lower | splitList "_" -}}
{{- fail (printf "env: %s would win over the configuration, and what follows from that (probes, services, volumes, grace period) would not know: set config.%s.%s" .name (first $words) (rest $words | join "_")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
