{{/* What is wrong with the values beyond what values.schema.json can say: a line each, with what to do. */}}

{{- define "sluicegate.problems" -}}
{{- $found := list -}}
{{- $settings := .Values.settings -}}
{{- if not .Values.image.repository -}}
{{- $found = append $found "image.repository: name an image with Sluicegate in it; none is published yet" -}}
{{- end -}}

{{- if and .Values.policy.existingConfigMap (or .Values.policy.release .Values.policy.agreements .Values.policy.evidence) -}}
{{- $found = append $found "policy: give existingConfigMap, or release, agreements and evidence, not both" -}}
{{- else if not (or .Values.policy.existingConfigMap .Values.policy.release) -}}
{{- $found = append $found "policy: give release (--set-file policy.release=policy/release.yaml) or existingConfigMap; without a policy nothing may be served" -}}
{{- end -}}
{{- if and .Values.policy.evidence .Values.policy.evidenceVolume -}}
{{- $found = append $found "policy: give evidence or evidenceVolume, not both" -}}
{{- end -}}
{{- if and .Values.weights.existingClaim .Values.weights.init.image -}}
{{- $found = append $found "weights: give existingClaim or init.image, not both" -}}
{{- end -}}
{{- if not (dig "tokens" "issuers" (list) $settings) -}}
{{- $found = append $found "settings.tokens.issuers: name at least one issuer whose tokens are believed" -}}
{{- end -}}
{{- if not (hasKey (dig "policy" (dict) $settings) "signatures") -}}
{{- $found = append $found "settings.policy.signatures: give the trust root of policy changes, or \"off\" for trials" -}}
{{- end -}}
{{- if not (dig "models" (dict) $settings) -}}
{{- $found = append $found "settings.models: name at least one model to host, as gpt2-124m: {}" -}}
{{- end -}}
{{- range $issuer := dig "tokens" "issuers" (list) $settings -}}
{{- $file := dig "keys" "file" "" $issuer -}}
{{- if and $file (hasPrefix "/etc/sluicegate/keys/" $file) (not $.Values.keySets.existingConfigMap) -}}
{{- $found = append $found (printf "keySets.existingConfigMap: name the ConfigMap with the key set of %s" $issuer.issuer) -}}
{{- else if and $file (not (isAbs $file)) -}}
{{- $found = append $found (printf "settings.tokens.issuers: the key set of %s is %s; give an absolute path, below /etc/sluicegate/keys for one of keySets" $issuer.issuer $file) -}}
{{- end -}}
{{- end -}}

{{- if and .Values.audit.enabled (not .Values.audit.existingSecret) -}}
{{- $found = append $found "audit.existingSecret: name the Secret with the signing key and the secret of pseudonyms; audit.enabled=false is for trials" -}}
{{- end -}}
{{- if eq .Values.audit.signingKey .Values.audit.pseudonymSecret -}}
{{- $found = append $found "audit: signingKey and pseudonymSecret are two keys of the Secret" -}}
{{- end -}}
{{- if and .Values.state.redis.existingSecret .Values.state.redis.url -}}
{{- $found = append $found "state.redis: give existingSecret or url, not both" -}}
{{- end -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.autoscaling.by) (not (include "sluicegate.isRedis" .)) -}}
{{- $found = append $found "replicas: more than one needs state.redis, since they must share quotas and withdrawals" -}}
{{- end -}}

{{- if and .Values.tls.clientCa.existingConfigMap (not .Values.tls.existingSecret) -}}
{{- $found = append $found "tls.existingSecret: callers can show certificates only over TLS; name the Secret with the server's own" -}}
{{- end -}}
{{- with .Values.metrics -}}
{{- if and .tls.clientCa.existingConfigMap (not .tls.existingSecret) -}}
{{- $found = append $found "metrics.tls.existingSecret: scrapers can show certificates only over TLS; name the Secret with the server's own" -}}
{{- end -}}
{{- if and .basicAuth.existingSecret (not .tls.existingSecret) -}}
{{- $found = append $found "metrics.tls.existingSecret: metrics.basicAuth needs it, else the password travels in the clear" -}}
{{- end -}}
{{- if and .basicAuth.existingSecret (not .basicAuth.user) -}}
{{- $found = append $found "metrics.basicAuth.user: give the user, as the Secret has it under username" -}}
{{- end -}}
{{- if and $.Values.monitoring.serviceMonitor.enabled .tls.existingSecret (not $.Values.monitoring.serviceMonitor.tls.serverName) -}}
{{- $found = append $found "monitoring.serviceMonitor.tls.serverName: give the name in the certificate of metrics.tls; Prometheus asks by address" -}}
{{- end -}}
{{- if and $.Values.monitoring.serviceMonitor.enabled .tls.clientCa.existingConfigMap (not $.Values.monitoring.serviceMonitor.tls.existingSecret) -}}
{{- $found = append $found "monitoring.serviceMonitor.tls.existingSecret: name the Secret with the certificate that Prometheus shows; metrics.tls.clientCa asks for one" -}}
{{- end -}}
{{- end -}}
{{- if and $settings.trusted_proxies (not .Values.tls.clientCa.existingConfigMap) -}}
{{- $found = append $found "tls.clientCa.existingConfigMap: settings.trusted_proxies are known by their certificates; name the ConfigMap with their authority" -}}
{{- end -}}
{{- with .Values.operators -}}
{{- if and .enabled (not (or .tls.existingSecret $.Values.tls.existingSecret)) -}}
{{- $found = append $found "operators.tls.existingSecret: operators are served over TLS only; name the Secret of type kubernetes.io/tls, here or in tls" -}}
{{- end -}}
{{- if and .tls.clientCa.existingConfigMap (not .tls.existingSecret) -}}
{{- $found = append $found "operators.tls.existingSecret: operators can show certificates of their own authority only over TLS of their own; name the Secret" -}}
{{- end -}}
{{- end -}}
{{- with .Values.ports -}}
{{- if ne (len (list .grpc .metrics .health .operators | uniq)) 4 -}}
{{- $found = append $found "ports: give four different ones" -}}
{{- end -}}
{{- end -}}
{{- $load := dig "engine" "load_seconds" 600 $settings -}}
{{- if lt (float64 .Values.probes.startupSeconds) (float64 $load) -}}
{{- $found = append $found (printf "probes.startupSeconds: is below settings.engine.load_seconds (%v); a model that takes so long would be killed while it loads" $load) -}}
{{- end -}}

{{- if and (or .Values.monitoring.serviceMonitor.enabled .Values.monitoring.prometheusRule.enabled) (not (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1")) -}}
{{- $found = append $found "monitoring: this cluster does not have monitoring.coreos.com/v1; install the Prometheus operator's CRDs, or switch serviceMonitor and prometheusRule off (helm template: add --api-versions monitoring.coreos.com/v1)" -}}
{{- end -}}
{{- with .Values.monitoring.prometheusRule -}}
{{- if and .enabled (not (and .runbooksUrl .grafanaUrl)) -}}
{{- $found = append $found "monitoring.prometheusRule: give runbooksUrl and grafanaUrl; alerts lead there" -}}
{{- end -}}
{{- end -}}
{{- if not (contains "sluicegate" (include "sluicegate.job" .)) -}}
{{- $found = append $found "monitoring.serviceMonitor.job: must contain sluicegate; rules and dashboards find jobs by it" -}}
{{- end -}}

{{- range list
  (list "listen" (hasKey $settings "listen") "bindAddress and ports.grpc")
  (list "metrics.listen" (hasKey (dig "metrics" (dict) $settings) "listen") "bindAddress and ports.metrics")
  (list "metrics.tls" (hasKey (dig "metrics" (dict) $settings) "tls") "metrics.tls")
  (list "metrics.basic_auth" (hasKey (dig "metrics" (dict) $settings) "basic_auth") "metrics.basicAuth")
  (list "health.listen" (hasKey (dig "health" (dict) $settings) "listen") "bindAddress and ports.health")
  (list "operators.listen" (hasKey (dig "operators" (dict) $settings) "listen") "operators.enabled, bindAddress and ports.operators")
  (list "operators.tls" (hasKey (dig "operators" (dict) $settings) "tls") "operators.tls")
  (list "tls" (hasKey $settings "tls") "tls")
  (list "policy.directory" (hasKey (dig "policy" (dict) $settings) "directory") "policy")
  (list "state.url" (hasKey (dig "state" (dict) $settings) "url") "state.redis")
  (list "state.url_file" (hasKey (dig "state" (dict) $settings) "url_file") "state.redis")
-}}
{{- if index . 1 -}}
{{- $found = append $found (printf "settings.%s: leave it out; the chart makes it from %s" (index . 0) (index . 2)) -}}
{{- end -}}
{{- end -}}
{{- $audit := dig "audit" (dict) $settings -}}
{{- range list "directory" "key" "secret" "replica" -}}
{{- if hasKey $audit . -}}
{{- $found = append $found (printf "settings.audit.%s: leave it out; the chart makes it from audit" .) -}}
{{- end -}}
{{- end -}}
{{- if and $audit (not .Values.audit.enabled) -}}
{{- $found = append $found "settings.audit: leave it out, or set audit.enabled" -}}
{{- end -}}
{{- $found = concat $found (include "sluicegate.problemsAround" . | fromYamlArray) (include "sluicegate.problemsEnvoy" . | fromYamlArray) -}}
{{- join "\n" $found -}}
{{- end -}}
