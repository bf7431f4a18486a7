{{/* What HorizontalPodAutoscaler and ScaledObject have in common. */}}

{{- define "sluicegate.scaleTarget" -}}
apiVersion: apps/v1
kind: StatefulSet
name: {{ include "sluicegate.fullname" . }}
{{- end -}}

{{/* Metrics of docs/metrics.md, and how much of each a replica should have on average. */}}
{{- define "sluicegate.scaleMetrics" -}}
- {metric: sluicegate_engine_queue_length, average: {{ .Values.autoscaling.queuedRequests }}}
- {metric: sluicegate_engine_sequences_running, average: {{ .Values.autoscaling.runningSequences }}}
{{- end -}}

{{- define "sluicegate.scaleBehavior" -}}
# Models take a while to load: what comes meanwhile must not call for ever more.
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - {type: Percent, value: 100, periodSeconds: 120}
    - {type: Pods, value: 2, periodSeconds: 120}
# One after the other, since each ends its streams first and takes what it knows of prompts with it.
scaleDown:
  stabilizationWindowSeconds: {{ .Values.autoscaling.scaleDownSeconds }}
  policies:
    - {type: Pods, value: 1, periodSeconds: {{ max 60 .Values.autoscaling.scaleDownSeconds }}}
{{- end -}}
