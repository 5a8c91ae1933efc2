"""Sets of values that the chart is tried with, from the defaults to everything at once."""

from __future__ import annotations

from typing import Any

Values = dict[str, Any]

_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
_EVERYTHING: Values = {
    "nameOverride": "search",
    "fullnameOverride": "nas",
    "commonLabels": {"team": "vision"},
    "global": {"imageRegistry": "registry.example.com/nas"},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/nas"}},
    "images": {
        "pullPolicy": "IfNotPresent",
        "pullSecrets": ["registry"],
        "operator": {"repository": "kinase-operator", "digest": f"sha256:{'0' * 64}"},
        "controller": {"repository": "kinase-controller", "tag": "1.2.3"},
    },
    "operator": {
        "logLevel": "DEBUG",
        "workers": 8,
        "runningAfter": 0.5,
        "resync": 30,
        "resources": {
            "requests": {"cpu": 1, "memory": "1Gi"},
            "limits": {"cpu": "2", "memory": "1Gi"},
        },
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}
                    ]
                }
            }
        },
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "system"}],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "search"}},
            }
        ],
        "terminationGracePeriodSeconds": 10,
        "livenessProbe": {"periodSeconds": 30},
        "readinessProbe": {"periodSeconds": 5, "successThreshold": 1},
        "annotations": {"example.com/owner": "vision"},
        "podAnnotations": {"example.com/scrape": "true"},
        "podLabels": {"sidecar": "none"},
        "extraEnv": [
            {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
            {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "extraVolumes": [
            {"name": "ca", "configMap": {"name": "ca", "items": [{"key": "a", "path": "a"}]}},
            {"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}},
        ],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca", "readOnly": True}],
    },
    "controller": {
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
        "priorityClassName": "search",
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
        "serviceAccount": {
            "name": "controllers",
            "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/nas"},
        },
    },
    "serviceAccounts": {"allowed": ["reader", "vision/writer"]},
    "trials": {"allowUnrestricted": True, "egress": {"ports": [3128, 5000], "open": True}},
    "store": {
        "uri": "s3://models/search",
        "endpoint": "https://s3.example.com:9000",
        "region": "eu-west-1",
        "credentials": {"accessKeyId": "key", "secretAccessKey": "secret"},
        "ca": _CERTIFICATE,
        "checksums": "when_supported",
        "patience": 1200000,
        "namespaces": ["vision", "speech"],
    },
    "networkPolicy": {
        "apiServer": {"ports": [6443], "cidrs": ["10.0.0.1/32", "fd00::1/128"]},
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
    },
    "monitoring": {
        "serviceMonitor": {
            "enabled": True,
            "labels": {"release": "prometheus"},
            "relabelings": [{"action": "labeldrop", "regex": "pod"}],
        },
        "podMonitor": {
            "enabled": True,
            "interval": "1m",
            "metricRelabelings": [
                {"action": "drop", "sourceLabels": ["__name__"], "regex": "python_.*"}
            ],
        },
        "prometheusRule": {
            "enabled": True,
            "labels": {"release": "prometheus"},
            "disabled": ["KinaseTrialsPending"],
            "runbookUrl": "https://docs.example.com/runbooks/%s.html",
        },
        "dashboards": {
            "enabled": True,
            "namespace": "grafana",
            "annotations": {"grafana_folder": "Kinase"},
        },
    },
}

SETS: dict[str, Values] = {
    "default": {},
    "everything": _EVERYTHING,
    "crds": {"crds": {"enabled": True, "keep": True}},
    "crds-not-kept": {"crds": {"enabled": True, "keep": False}},
    "one-namespace": {"watch": {"namespaces": ["vision"]}, "rbac": {"aggregate": False}},
    "two-namespaces": {
        "watch": {"namespaces": ["vision", "speech"]},
        "monitoring": {"podMonitor": {"enabled": True}},
    },
    "rights-elsewhere": {
        "rbac": {"create": False, "aggregate": False},
        "serviceAccount": {"create": False, "name": "given"},
    },
    "embedded": {
        "store": {
            "embedded": {"enabled": True},
            "namespaces": ["nas"],
        }
    },
    "embedded-by-hand": {
        "store": {
            "credentialsSecret": "keys",
            "credentials": {"accessKeyId": "key", "secretAccessKey": "secret"},
            "namespaces": ["nas", "kinase-system"],
            "embedded": {
                "enabled": True,
                "bucket": "try",
                "image": {"repository": "registry.example.com/s3", "tag": "1"},
                "command": ["/versitygw"],
                "metadata": "files",
                "extraEnv": [{"name": "VGW_ACCESS_LOG", "value": "stdout"}],
                "persistence": {
                    "size": "1Gi",
                    "storageClass": "fast",
                    "accessModes": ["ReadWriteOncePod"],
                    "keep": False,
                },
                "nodeSelector": {"disk": "yes"},
                "tolerations": [{"operator": "Exists"}],
                "priorityClassName": "low",
            },
        }
    },
    "embedded-without-volume": {
        "store": {"embedded": {"enabled": True, "persistence": {"enabled": False}}}
    },
    "embedded-on-a-claim": {
        "store": {"embedded": {"enabled": True, "persistence": {"existingClaim": "there"}}}
    },
    "store-by-name": {
        "store": {
            "uri": "s3://models",
            "endpoint": "http://minio.minio:9000",
            "credentialsSecret": "nas-s3",
            "caConfigMap": "nas-ca",
            "patience": 60,
        }
    },
    "aws-by-role": {
        "store": {
            "uri": "s3://models/search",
            "region": "eu-west-1",
            "roleArn": "arn:aws:iam::1:role/nas",
            "tokenAudience": "nas",
            "stsEndpoint": "https://sts.eu-west-1.amazonaws.com",
        },
        "controller": {
            "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn"}},
        },
    },
    "openshift": {
        "podSecurity": {"runAsUser": None, "runAsGroup": None, "fsGroup": None},
        "store": {"embedded": {"enabled": True}},
    },
    "monitoring": {
        "monitoring": {
            "serviceMonitor": {"enabled": True},
            "podMonitor": {"enabled": True},
            "prometheusRule": {"enabled": True},
            "dashboards": {"enabled": True},
        }
    },
    "bare": {
        "operator": {"resources": None, "extraEnv": []},
        "controller": {"resources": None},
        "networkPolicy": {"enabled": False},
        "rbac": {"aggregate": False},
    },
}

GOLDEN: dict[str, Values] = {
    "default": SETS["default"],
    "embedded": SETS["embedded-by-hand"],
}
"""Those whose outcome is kept in `golden/`; without what is made at random."""
