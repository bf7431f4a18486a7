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
    "tls": {"existingSecret": "gate-tls", "clientCa": {"existingConfigMap": "gate-callers"}},
    "metrics": {
        "tls": {"existingSecret": "gate-metrics-tls", "clientCa": {"existingConfigMap": "scrapers"}},
        "basicAuth": {"existingSecret": "gate-scraper", "user": "prometheus"},
    },
    "operators": {
        "enabled": True,
        "tls": {"existingSecret": "gate-operators-tls", "clientCa": {"existingConfigMap": "gate-operators"}},
    },
    "weights": {
        "existingClaim": "",
        "init": {
            "image": "registry.example/gpt2-weights:1",
            "command": ["cp", "-R"],
            "args": ["/checkpoints/.", "/models"],
            "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "gate-store", "key": "token"}}}],
            "size": "5Gi",
        },
        "hub": {"enabled": True},
    },
    "bindAddress": "[::]",
    "service": {"type": "LoadBalancer", "appProtocol": "grpc", "annotations": {"example.com/internal": "true"}},
    "gateway": {
        "enabled": True,
        "parentRefs": [{"name": "edge", "namespace": "gateways", "sectionName": "grpc"}],
        "hostnames": ["gate.example", "*.gate.example"],
        "tls": {"serverName": "gate.example", "ca": {"existingConfigMap": "gate-ca"}},
        "annotations": {"example.com/owner": "release"},
    },
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "hosts": ["gate.example", "*.gate.example"],
        "tlsSecret": "gate-edge-tls",
        "annotations": {"nginx.ingress.kubernetes.io/backend-protocol": "GRPCS"},
    },
    "networkPolicy": {
        "enabled": True,
        "callers": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.1/32"]}}],
        "scrapers": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
        "operators": [{"ipBlock": {"cidr": "192.0.2.64/26"}}],
        "issuers": {"peers": [{"ipBlock": {"cidr": "198.51.100.7/32"}}], "port": 8443},
        "redis": {"peers": [{"podSelector": {"matchLabels": {"app": "redis"}}}], "port": 6380},
        "egress": [{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 443, "protocol": "TCP"}]}],
    },
    "persistence": {"storageClassName": "local"},
    "serviceAccount": {"name": "gate-runner", "annotations": {"example.com/role": "gate"}},
    "autoscaling": {
        "by": "keda",
        "minReplicas": 3,
        "maxReplicas": 30,
        "queuedRequests": 5,
        "runningSequences": 6,
        "scaleDownSeconds": 0,
        "prometheus": {"url": "https://prometheus.example", "authentication": "prometheus"},
    },
    "podDisruptionBudget": {"maxUnavailable": "25%"},
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
    "probes": {"readiness": "models"},
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
ALL_OF_ENVOY: dict[str, Any] = {
    "fullnameOverride": "gate",
    "settings": {"models": {"gpt2-355m": {"slots": "auto"}}, "limits": {"queued_requests": 100}},
    "bindAddress": "[::]",
    "networkPolicy": {
        "enabled": True,
        "callers": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
        "scrapers": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
        "issuers": {"peers": [{"ipBlock": {"cidr": "198.51.100.7/32"}}], "port": 8443},
        "redis": {"peers": [{"podSelector": {"matchLabels": {"app": "redis"}}}]},
    },
    "monitoring": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "envoy": {
        "replicas": 3,
        "image": {"digest": "sha256:" + "b" * 64},
        "tls": {"clientCa": {"existingConfigMap": "gate-callers"}},
        "service": {"type": "NodePort", "port": 8443, "annotations": {"example.com/internal": "true"}},
        "jwtAuthn": {"enabled": True, "keysUrl": "https://keys.example:8443/jwks"},
        "ports": {"callers": 9443, "observe": 9903},
        "threads": 4,
        "drainSeconds": 600,
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "edge", "operator": "Exists"}],
    },
}
"""Over those of the example with Envoy: all that it can have."""
HPA: dict[str, Any] = {"autoscaling": {"by": "hpa"}}
"""Over those of the example for production."""
