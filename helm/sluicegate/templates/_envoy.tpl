{{/* Envoy's configuration: files/envoy/envoy.yaml with what values say, less what they leave out. */}}

{{- define "sluicegate.envoyName" -}}
{{ include "sluicegate.fullname" . }}-envoy
{{- end -}}

{{/* Of another name than the replicas' pods, whose Services must not find these. */}}
{{- define "sluicegate.envoySelectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}-envoy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sluicegate.envoyLabels" -}}
{{ include "sluicegate.envoySelectorLabels" . }}
app.kubernetes.io/component: envoy
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "sluicegate.envoyConfig" -}}
{{- $config := .Files.Get "files/envoy/envoy.yaml" | fromYaml -}}
{{- $resources := $config.static_resources -}}
{{- $callers := index $resources.listeners 0 -}}
{{- $observe := index $resources.listeners 1 -}}
{{- $replicas := index $resources.clusters 0 -}}
{{- $chain := index $callers.filter_chains 0 -}}
{{- $connections := (index $chain.filters 0).typed_config -}}
{{- $host := index $connections.route_config.virtual_hosts 0 -}}
{{- with .Values.envoy -}}

{{- $_ := set $callers.address.socket_address "port_value" .ports.callers -}}
{{- $_ := set $observe.address.socket_address "port_value" .ports.observe -}}
{{- if contains ":" $.Values.bindAddress -}}
{{- range list $callers $observe -}}
{{- $_ := set .address.socket_address "address" "::" -}}
{{- end -}}
{{- end -}}
{{- if not .tls.clientCa.existingConfigMap -}}
{{- $_ := unset $chain.transport_socket.typed_config.common_tls_context "validation_context_sds_secret_config" -}}
{{- end -}}

{{- $left := list "grpc" "reflection" -}}
{{- $filters := list "router" -}}
{{- if .rest.enabled -}}
{{- $left = append $left "rest" -}}
{{- $filters = concat $filters (list "buffer" "grpc_json_transcoder") -}}
{{- end -}}
{{- if .web.enabled -}}
{{- $left = concat $left (list "page" "preflight") -}}
{{- $filters = concat $filters (list "cors" "grpc_web") -}}
{{- $origins := list -}}
{{- range .web.allowedOrigins -}}
{{- $origins = append $origins (dict "exact" .) -}}
{{- end -}}
{{- $_ := set (index $host.typed_per_filter_config "envoy.filters.http.cors") "allow_origin_string_match" $origins -}}
{{- else -}}
{{- $_ := unset $host "typed_per_filter_config" -}}
{{- end -}}
{{- $routes := list -}}
{{- range $host.routes -}}
{{- if has .name $left -}}
{{- $routes = append $routes . -}}
{{- end -}}
{{- end -}}
{{- $_ := set $host "routes" $routes -}}
{{- $kept := list -}}
{{- range $connections.http_filters -}}
{{- /* After those for pages, which can then read the refusal. */ -}}
{{- if and $.Values.envoy.jwtAuthn.enabled (eq .name "envoy.filters.http.buffer") -}}
{{- $kept = append $kept (include "sluicegate.envoyJwtAuthn" $ | fromYaml).filter -}}
{{- end -}}
{{- if has (trimPrefix "envoy.filters.http." .name) $filters -}}
{{- $kept = append $kept . -}}
{{- end -}}
{{- end -}}
{{- $_ := set $connections "http_filters" $kept -}}
{{- if .jwtAuthn.enabled -}}
{{- $_ := set $resources "clusters" (append $resources.clusters (include "sluicegate.envoyJwtAuthn" $ | fromYaml).cluster) -}}
{{- end -}}

{{- $endpoint := (index (index $replicas.load_assignment.endpoints 0).lb_endpoints 0).endpoint -}}
{{- $_ := set $endpoint.address.socket_address "address" (printf "%s-replicas.%s.svc" (include "sluicegate.fullname" $) $.Release.Namespace) -}}
{{- $_ := set $endpoint.address.socket_address "port_value" $.Values.ports.grpc -}}
{{- $tls := $replicas.transport_socket.typed_config -}}
{{- $_ := set $tls "sni" .replicaTls.serverName -}}
{{- $_ := set (index $tls.common_tls_context.combined_validation_context.default_validation_context.match_typed_subject_alt_names 0).matcher "exact" .replicaTls.serverName -}}
{{- $_ := set (index $replicas.circuit_breakers.thresholds 0) "max_requests" (include "sluicegate.envoyRequests" $ | int) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* What its ConfigMap holds: data, and binaryData where there is any. */}}
{{- define "sluicegate.envoyFiles" -}}
data:
  envoy.yaml: |
    {{- include "sluicegate.envoyConfig" . | nindent 4 }}
  {{- $names := list "certificate" "client-certificate" "replicas-ca" }}
  {{- if .Values.envoy.tls.clientCa.existingConfigMap }}
  {{- $names = append $names "callers-ca" }}
  {{- end }}
  {{- range $names }}
  {{ . }}.yaml: {{ $.Files.Get (printf "files/envoy/%s.yaml" .) | toJson }}
  {{- end }}
{{- if .Values.envoy.rest.enabled }}
binaryData:
  descriptors.binpb: {{ .Files.Get "files/envoy/descriptors.binpb" | b64enc }}
{{- end }}
{{- end -}}

{{/* Twice the slots and places in queues of all replicas: they refuse with a reason what is above once, and other calls are short. */}}
{{- define "sluicegate.envoyRequests" -}}
{{- $places := 0 -}}
{{- range $model := .Values.settings.models -}}
{{- $slots := dig "slots" 16 (default (dict) $model) -}}
{{- $places = add $places (ternary 1024 $slots (kindIs "string" $slots)) (dig "limits" "queued_requests" 256 $.Values.settings) -}}
{{- end -}}
{{- $replicas := ternary .Values.autoscaling.maxReplicas .Values.replicas (not (empty .Values.autoscaling.by)) -}}
{{- mul 2 (max 1 $replicas) $places -}}
{{- end -}}

{{/* files/envoy/jwt-authn.yaml, for the one issuer. */}}
{{- define "sluicegate.envoyJwtAuthn" -}}
{{- $part := .Files.Get "files/envoy/jwt-authn.yaml" | fromYaml -}}
{{- $issuer := index .Values.settings.tokens.issuers 0 -}}
{{- $url := urlParse .Values.envoy.jwtAuthn.keysUrl -}}
{{- $provider := $part.filter.typed_config.providers.issuer -}}
{{- $_ := set $provider "issuer" $issuer.issuer -}}
{{- $_ := set $provider "audiences" (list $issuer.audience) -}}
{{- $_ := set $provider.remote_jwks.http_uri "uri" .Values.envoy.jwtAuthn.keysUrl -}}
{{- $endpoint := (index (index $part.cluster.load_assignment.endpoints 0).lb_endpoints 0).endpoint -}}
{{- $_ := set $endpoint.address.socket_address "address" $url.hostname -}}
{{- $_ := set $endpoint.address.socket_address "port_value" (trimPrefix $url.hostname $url.host | trimPrefix ":" | default "443" | int) -}}
{{- $tls := $part.cluster.transport_socket.typed_config -}}
{{- $_ := set $tls "sni" $url.hostname -}}
{{- $_ := set (index $tls.common_tls_context.validation_context.match_typed_subject_alt_names 0).matcher "exact" $url.hostname -}}
{{- toYaml $part -}}
{{- end -}}
