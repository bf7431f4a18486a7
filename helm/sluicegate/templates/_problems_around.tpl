{{/* What is wrong with the values about what stands around the replicas: autoscaling, routes, networks. A list, as YAML. */}}

{{- define "sluicegate.problemsAround" -}}
{{- $found := list -}}
{{- $settings := .Values.settings -}}
{{- with .Values.autoscaling -}}
{{- if .by -}}
{{- if not (include "sluicegate.isRedis" $) -}}
{{- $found = append $found "autoscaling.by: needs state.redis, since replicas must share quotas and withdrawals" -}}
{{- end -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- $found = append $found (printf "autoscaling.minReplicas: is above maxReplicas (%v)" .maxReplicas) -}}
{{- end -}}
{{- $slots := 0 -}}
{{- $isKnown := true -}}
{{- range $model := dig "models" (dict) $settings -}}
{{- $own := dig "slots" 16 (default (dict) $model) -}}
{{- if kindIs "string" $own -}}
{{- $isKnown = false -}}
{{- else -}}
{{- $slots = add $slots $own -}}
{{- end -}}
{{- end -}}
{{- if and $isKnown (gt (int .runningSequences) (int $slots)) -}}
{{- $found = append $found (printf "autoscaling.runningSequences: is above the slots of a replica's models together (%d), so it would never be reached" $slots) -}}
{{- end -}}
{{- if and (eq .by "keda") (not .prometheus.url) -}}
{{- $found = append $found "autoscaling.prometheus.url: name the Prometheus that KEDA asks" -}}
{{- end -}}
{{- if and (eq .by "keda") (not ($.Capabilities.APIVersions.Has "keda.sh/v1alpha1")) -}}
{{- $found = append $found "autoscaling.by: this cluster does not have keda.sh/v1alpha1; install KEDA, or take hpa (helm template: add --api-versions keda.sh/v1alpha1)" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- with .Values.gateway -}}
{{- if and .enabled (not .parentRefs) -}}
{{- $found = append $found "gateway.parentRefs: name the Gateway that the route is attached to" -}}
{{- end -}}
{{- if and .enabled $.Values.tls.existingSecret (not .tls.serverName) -}}
{{- $found = append $found "gateway.tls.serverName: give the name in the certificate of tls.existingSecret, which the Gateway checks" -}}
{{- end -}}
{{- if and .enabled (not ($.Capabilities.APIVersions.Has "gateway.networking.k8s.io/v1")) -}}
{{- $found = append $found "gateway: this cluster does not have gateway.networking.k8s.io/v1; install the Gateway API's CRDs (helm template: add --api-versions gateway.networking.k8s.io/v1)" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- $found = append $found "ingress.hosts: name the hosts that callers use" -}}
{{- end -}}

{{- with .Values.networkPolicy -}}
{{- if .enabled -}}
{{- if not .callers -}}
{{- $found = append $found "networkPolicy.callers: name who may call; `namespaceSelector: {}` is every pod, `ipBlock: {cidr: 0.0.0.0/0}` everybody" -}}
{{- end -}}
{{- if and $.Values.monitoring.serviceMonitor.enabled (not .scrapers) -}}
{{- $found = append $found "networkPolicy.scrapers: name Prometheus; monitoring.serviceMonitor sends it" -}}
{{- end -}}
{{- $fetched := false -}}
{{- range $issuer := dig "tokens" "issuers" (list) $settings -}}
{{- if or (dig "keys" "url" "" $issuer) (dig "keys" "discovery" false $issuer) -}}
{{- $fetched = true -}}
{{- end -}}
{{- end -}}
{{- if and $fetched (not .issuers.peers) -}}
{{- $found = append $found "networkPolicy.issuers.peers: name where the issuers' keys are fetched; without them every token is refused" -}}
{{- end -}}
{{- if and (include "sluicegate.isRedis" $) (not .redis.peers) -}}
{{- $found = append $found "networkPolicy.redis.peers: name where the Redis of state.redis is" -}}
{{- end -}}
{{- if and (or $.Values.weights.hub.enabled $settings.tracing) (not .egress) -}}
{{- $found = append $found "networkPolicy.egress: let pods reach the hub (weights.hub) and the collector (settings.tracing)" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}
