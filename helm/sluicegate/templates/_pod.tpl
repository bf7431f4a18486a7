{{/* The pod: one server, and what it reads and writes. */}}

{{- define "sluicegate.pod" -}}
serviceAccountName: {{ include "sluicegate.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "sluicegate.graceSeconds" . }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ int64 .Values.runAs.user }}
  runAsGroup: {{ int64 .Values.runAs.group }}
  fsGroup: {{ int64 .Values.runAs.group }}
  # Always would open the files of the audit log to the group at each start, and the server refuses a log that is open.
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or .Values.audit.enabled .Values.weights.init.image .Values.extraInitContainers }}
initContainers:
  {{- if .Values.audit.enabled }}
  - name: audit-keys
    image: {{ include "sluicegate.image" . | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    # Kubernetes opens the files of a Secret to the pod's group, and the server refuses a key that a group can read.
    command: [sh, -ceu, 'umask 077; cp "$1/key" "$1/secret" "$2/"', audit-keys]
    args: [/run/sluicegate/audit-secret, /run/sluicegate/audit]
    securityContext:
      {{- include "sluicegate.containerSecurity" . | nindent 6 }}
    resources:
      requests: {cpu: 10m, memory: 16Mi}
      limits: {memory: 32Mi}
    volumeMounts:
      - {name: audit-secret, mountPath: /run/sluicegate/audit-secret, readOnly: true}
      - {name: audit-keys, mountPath: /run/sluicegate/audit}
  {{- end }}
  {{- with .Values.weights }}
  {{- if .init.image }}
  - name: weights
    image: {{ .init.image | quote }}
    imagePullPolicy: {{ $.Values.image.pullPolicy }}
    {{- with .init.command }}
    command:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .init.args }}
    args:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .init.env }}
    env:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    securityContext:
      {{- include "sluicegate.containerSecurity" $ | nindent 6 }}
    resources:
      requests: {cpu: 100m, memory: 128Mi}
      limits: {memory: 1Gi}
    volumeMounts:
      - {name: weights, mountPath: {{ .mountPath }}}
      - {name: tmp, mountPath: /tmp}
  {{- end }}
  {{- end }}
  {{- with .Values.extraInitContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
containers:
  - name: sluicegate
    image: {{ include "sluicegate.image" . | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command: [sluicegate]
    args:
      - serve
      - --config=/etc/sluicegate/settings/sluicegate.yaml
      {{- if .Values.audit.enabled }}
      - --replica=$(POD_NAME){{ .Values.audit.replicaSuffix }}
      {{- end }}
    env:
      - name: POD_NAME
        valueFrom: {fieldRef: {fieldPath: metadata.name}}
      - {name: HOME, value: /tmp}
      {{- if .Values.weights.hub.enabled }}
      - {name: HF_HOME, value: /var/cache/sluicegate}
      {{- else }}
      - {name: HF_HUB_OFFLINE, value: "1"}
      {{- end }}
      {{- with .Values.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    ports:
      - {name: grpc, containerPort: {{ .Values.ports.grpc }}}
      - {name: metrics, containerPort: {{ .Values.ports.metrics }}}
      - {name: health, containerPort: {{ .Values.ports.health }}}
      {{- if .Values.operators.enabled }}
      - {name: operators, containerPort: {{ .Values.ports.operators }}}
      {{- end }}
    # Health answers once every model has loaded.
    startupProbe:
      grpc: {port: {{ .Values.ports.health }}}
      periodSeconds: 5
      timeoutSeconds: 5
      failureThreshold: {{ divf .Values.probes.startupSeconds 5 | ceil | int }}
    readinessProbe:
      grpc: {port: {{ .Values.ports.health }}{{ if eq .Values.probes.readiness "models" }}, service: models{{ end }}}
      periodSeconds: 5
      timeoutSeconds: 5
      failureThreshold: 2
    # Only a server that hangs is killed: an engine that is lost restarts by itself.
    livenessProbe:
      grpc: {port: {{ .Values.ports.health }}}
      periodSeconds: 10
      timeoutSeconds: 10
      failureThreshold: 6
    securityContext:
      {{- include "sluicegate.containerSecurity" . | nindent 6 }}
    resources:
      {{- toYaml .Values.resources | nindent 6 }}
    volumeMounts:
      - {name: settings, mountPath: /etc/sluicegate/settings, readOnly: true}
      # Whole directories, no subPath: a change of the ConfigMap reaches the server.
      - {name: policy, mountPath: /etc/sluicegate/policy, readOnly: true}
      - {name: agreements, mountPath: /etc/sluicegate/policy/agreements, readOnly: true}
      - {name: evidence, mountPath: /etc/sluicegate/policy/evidence, readOnly: true}
      - {name: data, mountPath: /var/lib/sluicegate}
      # The socket of the engine, too, is in a directory that the server makes here.
      - {name: tmp, mountPath: /tmp}
      {{- if .Values.audit.enabled }}
      - {name: audit-keys, mountPath: /run/sluicegate/audit, readOnly: true}
      {{- end }}
      {{- if .Values.keySets.existingConfigMap }}
      - {name: key-sets, mountPath: /etc/sluicegate/keys, readOnly: true}
      {{- end }}
      {{- if .Values.state.redis.existingSecret }}
      - {name: state-url, mountPath: /etc/sluicegate/state-url, readOnly: true}
      {{- end }}
      {{- range include "sluicegate.listenerVolumes" . | fromYamlArray }}
      - {name: {{ .name }}, mountPath: /etc/sluicegate/{{ .name }}, readOnly: true}
      {{- end }}
      {{- if or .Values.weights.existingClaim .Values.weights.init.image }}
      - {name: weights, mountPath: {{ .Values.weights.mountPath }}, readOnly: true}
      {{- end }}
      {{- if .Values.weights.hub.enabled }}
      - {name: hub-cache, mountPath: /var/cache/sluicegate}
      {{- end }}
      {{- with .Values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  {{- include "sluicegate.volumes" . | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- $selector := dict "labelSelector" (dict "matchLabels" (include "sluicegate.selectorLabels" $ | fromYaml)) }}
  {{- range . }}
  - {{- merge (deepCopy .) $selector | toYaml | nindent 4 }}
  {{- end }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "sluicegate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "sluicegate.volumes" -}}
- name: settings
  configMap:
    name: {{ include "sluicegate.fullname" . }}-settings
- name: policy
  configMap:
    name: {{ include "sluicegate.policyConfigMap" . }}
    items: [{key: release, path: release.yaml}]
- name: agreements
  configMap:
    name: {{ include "sluicegate.policyConfigMap" . }}
- name: evidence
{{- with .Values.policy.evidenceVolume }}
  {{- toYaml . | nindent 2 }}
{{- else }}
  configMap:
    name: {{ include "sluicegate.policyConfigMap" . }}
{{- end }}
- name: tmp
  emptyDir: {}
{{- with .Values.audit }}
{{- if .enabled }}
- name: audit-secret
  secret:
    secretName: {{ .existingSecret }}
    items:
      - {key: {{ .signingKey }}, path: key}
      - {key: {{ .pseudonymSecret }}, path: secret}
- name: audit-keys
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end }}
{{- end }}
{{- with .Values.keySets.existingConfigMap }}
- name: key-sets
  configMap:
    name: {{ . }}
{{- end }}
{{- with .Values.state.redis }}
{{- if .existingSecret }}
# A file, since command lines and environments are shown around. Not for everybody to read: the server refuses such a URL.
- name: state-url
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items: [{key: {{ .key }}, path: url}]
{{- end }}
{{- end }}
{{- with include "sluicegate.listenerVolumes" . | fromYamlArray }}
{{ toYaml . }}
{{- end }}
{{- with .Values.weights }}
{{- if .existingClaim }}
- name: weights
  persistentVolumeClaim:
    claimName: {{ .existingClaim }}
    readOnly: true
{{- else if .init.image }}
- name: weights
  emptyDir: {sizeLimit: {{ .init.size }}}
{{- end }}
{{- if .hub.enabled }}
- name: hub-cache
  emptyDir: {sizeLimit: {{ .hub.cacheSize }}}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What the listeners read: certificates, authorities and the password of metrics. Each is mounted under its own name. */}}
{{- define "sluicegate.listenerVolumes" -}}
{{- range $prefix, $tls := dict "" .Values.tls "metrics-" .Values.metrics.tls "operators-" .Values.operators.tls }}
{{- with $tls.existingSecret }}
- name: {{ $prefix }}tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with $tls.clientCa.existingConfigMap }}
- name: {{ $prefix }}client-ca
  configMap:
    name: {{ . }}
{{- end }}
{{- end }}
{{- with .Values.metrics.basicAuth.existingSecret }}
# Not for everybody to read: the server refuses such a password.
- name: metrics-password
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: password, path: password}]
{{- end }}
{{- end -}}
