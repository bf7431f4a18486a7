{{/* The settings file: what values say, and what only the chart can know. */}}

{{- define "sluicegate.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- $made := dict
  "listen" (printf "%s:%d" .Values.bindAddress (int .Values.ports.grpc))
  "health" (dict "listen" (printf "%s:%d" .Values.bindAddress (int .Values.ports.health)))
  "policy" (dict "directory" "/etc/sluicegate/policy")
-}}
{{- with .Values.state.redis -}}
{{- if .url -}}
{{- $_ := set $made "state" (dict "url" .url) -}}
{{- else if .existingSecret -}}
{{- $_ := set $made "state" (dict "url_file" "/etc/sluicegate/state-url/url") -}}
{{- else -}}
{{- $_ := set $made "state" (dict "url" "sqlite:////var/lib/sluicegate/state.db") -}}
{{- end -}}
{{- end -}}
{{- with include "sluicegate.tlsFiles" (list .Values.tls "") -}}
{{- $_ := set $made "tls" (fromYaml .) -}}
{{- end -}}
{{- $metrics := dict "listen" (printf "%s:%d" .Values.bindAddress (int .Values.ports.metrics)) -}}
{{- with include "sluicegate.tlsFiles" (list .Values.metrics.tls "metrics-") -}}
{{- $_ := set $metrics "tls" (fromYaml .) -}}
{{- end -}}
{{- with .Values.metrics.basicAuth -}}
{{- if .existingSecret -}}
{{- $_ := set $metrics "basic_auth" (dict "user" .user "password_file" "/etc/sluicegate/metrics-password/password") -}}
{{- end -}}
{{- end -}}
{{- $_ := set $made "metrics" $metrics -}}
{{- if .Values.operators.enabled -}}
{{- $operators := dict "listen" (printf "%s:%d" .Values.bindAddress (int .Values.ports.operators)) -}}
{{- with include "sluicegate.tlsFiles" (list .Values.operators.tls "operators-") -}}
{{- $_ := set $operators "tls" (fromYaml .) -}}
{{- end -}}
{{- $_ := set $made "operators" $operators -}}
{{- end -}}
{{- if .Values.audit.enabled -}}
{{- $_ := set $made "audit" (dict
  "directory" "/var/lib/sluicegate/audit"
  "key" "/run/sluicegate/audit/key"
  "secret" "/run/sluicegate/audit/secret"
) -}}
{{- else -}}
{{- $_ := set $made "audit" "off" -}}
{{- end -}}
{{- toYaml (mustMergeOverwrite $settings $made) -}}
{{- end -}}

{{/* The files of a listener's TLS: (its values, what its mounts begin with). Nothing where it has none. */}}
{{- define "sluicegate.tlsFiles" -}}
{{- $folder := printf "/etc/sluicegate/%s" (index . 1) -}}
{{- with index . 0 -}}
{{- if .existingSecret -}}
certificate: {{ $folder }}tls/tls.crt
key: {{ $folder }}tls/tls.key
{{- with .clientCa }}
{{- if .existingConfigMap }}
client_ca: {{ $folder }}client-ca/{{ .key }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* How long a replica may take to stop. */}}
{{- define "sluicegate.graceSeconds" -}}
{{- $drain := addf (dig "drain" "announce_seconds" 2 .Values.settings) (dig "drain" "grace_seconds" 30 .Values.settings) -}}
{{- add (ceil $drain | int) (int .Values.shutdownSlackSeconds) -}}
{{- end -}}
