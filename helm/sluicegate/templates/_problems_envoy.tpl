{{/* What is wrong with the values about Envoy. A list, as YAML. */}}

{{- define "sluicegate.problemsEnvoy" -}}
{{- $found := list -}}
{{- $settings := .Values.settings -}}
{{- with .Values.envoy -}}
{{- if .enabled -}}
{{- if not .tls.existingSecret -}}
{{- $found = append $found "envoy.tls.existingSecret: name the Secret with the certificate for callers; tokens do not travel in the clear" -}}
{{- end -}}
{{- if not (and .replicaTls.existingSecret .replicaTls.serverName .replicaTls.ca.existingConfigMap) -}}
{{- $found = append $found "envoy.replicaTls: give existingSecret, serverName and ca.existingConfigMap; Envoy and replicas know each other by certificates" -}}
{{- end -}}
{{- if not (and $.Values.tls.existingSecret $.Values.tls.clientCa.existingConfigMap $settings.trusted_proxies) -}}
{{- $found = append $found "envoy: give tls.existingSecret, tls.clientCa and settings.trusted_proxies; replicas would take Envoy for the one caller of all calls" -}}
{{- end -}}
{{- if or $.Values.gateway.enabled $.Values.ingress.enabled -}}
{{- $found = append $found "envoy: switch gateway and ingress off; Envoy must see callers' own connections" -}}
{{- end -}}
{{- if lt (float64 (dig "drain" "announce_seconds" 2 $settings)) 4.0 -}}
{{- $found = append $found "settings.drain.announce_seconds: give at least 4; until then Envoy may not have seen that a replica stops" -}}
{{- end -}}
{{- if eq (int .ports.callers) (int .ports.observe) -}}
{{- $found = append $found "envoy.ports: give two different ones" -}}
{{- end -}}
{{- if has 9901 (list (int .ports.callers) (int .ports.observe)) -}}
{{- $found = append $found "envoy.ports: 9901 is Envoy's own, on its loopback interface" -}}
{{- end -}}
{{- if and .web.enabled (not .web.allowedOrigins) -}}
{{- $found = append $found "envoy.web.allowedOrigins: name the origins whose pages may call, as https://app.example" -}}
{{- end -}}
{{- if and .jwtAuthn.enabled (ne (len (dig "tokens" "issuers" (list) $settings)) 1) -}}
{{- $found = append $found "envoy.jwtAuthn: is for one issuer; leave it to the servers where settings.tokens.issuers has more" -}}
{{- end -}}
{{- if and .jwtAuthn.enabled (not .jwtAuthn.keysUrl) -}}
{{- $found = append $found "envoy.jwtAuthn.keysUrl: give the https URL of the issuer's key set" -}}
{{- end -}}
{{- if and .jwtAuthn.enabled $.Values.networkPolicy.enabled (not $.Values.networkPolicy.issuers.peers) -}}
{{- $found = append $found "networkPolicy.issuers.peers: name where envoy.jwtAuthn fetches the issuer's keys" -}}
{{- end -}}
{{- else if or .rest.enabled .web.enabled .jwtAuthn.enabled -}}
{{- $found = append $found "envoy.enabled: rest, web and jwtAuthn need Envoy; the servers speak gRPC only" -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}
