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
{{- if and $v.loadTest.enabled (eq $v.loadTest.door "kafka") (or (not $c.kafka.enabled) (eq (toString $c.kafka.brokers) "embedded")) -}}
{{- fail "loadTest.door: kafka needs a broker outside the pods: config.kafka.brokers" -}}
{{- end -}}
{{- if and $v.retraining.enabled (not $v.retraining.image) }}{{ fail "retraining.enabled needs retraining.image, an image of yours that trains and registers a model" }}{{ end -}}
{{- if and $v.kserve.inferenceService.enabled (not $v.kserve.inferenceService.storageUri) }}{{ fail "kserve.inferenceService.enabled needs kserve.inferenceService.storageUri" }}{{ end -}}
{{- end -}}
