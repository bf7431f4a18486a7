{{/* Names and labels. */}}

{{/* Name of the release's objects: short enough that suffixes and the ordinals of pods fit below 63 characters. */}}
{{- define "sluicegate.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What never changes in the life of a release: selectors and claims may not. */}}
{{- define "sluicegate.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sluicegate.labels" -}}
{{ include "sluicegate.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Of the pods of `helm test`, which no Service selects. */}}
{{- define "sluicegate.testLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end -}}

{{- define "sluicegate.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "sluicegate.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "sluicegate.image" -}}
{{- with .Values.image -}}
{{- .repository -}}
{{- if .digest -}}@{{ .digest }}{{- else -}}:{{ default $.Chart.AppVersion .tag }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "sluicegate.policyConfigMap" -}}
{{- default (printf "%s-policy" (include "sluicegate.fullname" .)) .Values.policy.existingConfigMap -}}
{{- end -}}

{{- define "sluicegate.isRedis" -}}
{{- if or .Values.state.redis.existingSecret .Values.state.redis.url -}}yes{{- end -}}
{{- end -}}

{{- define "sluicegate.job" -}}
{{- default (printf "sluicegate-%s-%s" .Release.Namespace .Release.Name) .Values.monitoring.serviceMonitor.job -}}
{{- end -}}
