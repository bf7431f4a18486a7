"""Values that switch on everything that the chart has, over those of the example for CPUs."""

from __future__ import annotations

from typing import Any

ALL_ON: dict[str, Any] = {
    "fullnameOverride": "gate",
    "image": {
        "repository": "registry.example:5000/team/sluicegate",
        "digest": "sha256:" + "a" * 64,
        "pullPolicy": "Always",
    },
    "imagePullSecrets": [{"name": "registry"}],
    "policy": {"existingConfigMap": "gate-policy", "release": ""},
    "keySets": {"existingConfigMap": "gate-keys"},
    "audit": {"replicaSuffix": "-2"},
    "state": {"redis": {"existingSecret": "gate-redis"}},
    "replicas": 2,
    "tls": {"existingSecret": "gate-tls", "clientCa": {"existingConfigMap": "gate-callers"}},
    "metrics": {
        "tls": {"existingSecret": "gate-metrics-tls", "clientCa": {"existingConfigMap": "scrapers"}},
        "basicAuth": {"existingSecret": "gate-scraper", "user": "prometheus"},
    },
    "weights": {"existingClaim": "gpt2-weights", "hub": {"enabled": True}},
    "bindAddress": "[::]",
    "service": {"type": "LoadBalancer", "appProtocol": "grpc", "annotations": {"example.com/internal": "true"}},
    "persistence": {"storageClassName": "local"},
    "serviceAccount": {"name": "gate-runner", "annotations": {"example.com/role": "gate"}},
    "monitoring": {
        "serviceMonitor": {
            "enabled": True,
            "labels": {"release": "prometheus"},
            "tls": {
                "serverName": "gate-metrics.example",
                "ca": {"existingConfigMap": "gate-ca"},
                "existingSecret": "prometheus-client",
            },
        },
        "prometheusRule": {
            "enabled": True,
            "labels": {"release": "prometheus"},
            "runbooksUrl": "https://wiki.example/runbooks/",
            "grafanaUrl": "https://grafana.corp.example/",
        },
        "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Sluicegate"}},
    },
    "resources": {"requests": {"cpu": "4"}, "limits": {"nvidia.com/gpu": 1}},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "runtimeClassName": "nvidia",
    "priorityClassName": "high",
    "podLabels": {"team": "release"},
    "podAnnotations": {"example.com/note": "yes"},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"}],
    "extraInitContainers": [{"name": "fetch", "image": "registry.example/fetch:1"}],
    "extraVolumes": [{"name": "redis-ca", "configMap": {"name": "redis-ca"}}],
    "extraVolumeMounts": [{"name": "redis-ca", "mountPath": "/etc/redis-ca", "readOnly": True}],
}
