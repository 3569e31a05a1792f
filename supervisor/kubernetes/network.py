"""The network of the pods: Service, Ingress and network policies."""

from __future__ import annotations

from typing import Any

from supervisor.kubernetes.pods import PORT, Object, labels, metadata
from supervisor.kubernetes.values import Peer, Values

# Where no AI service, photo or webhook of the internet is: our own networks, and a cloud host's credentials.
NOT_PUBLIC_4 = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
]
NOT_PUBLIC_6 = ["::1/128", "fc00::/7", "fe80::/10"]


def service(values: Values) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(values, "web", "web"),
        "spec": {
            "selector": labels(values, "web"),
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    }


def ingress(values: Values) -> Object:
    """Without buffers and with a patient time-out: feeds are streams that last for hours."""
    rule: Object = {
        "host": values.web.host,
        "http": {
            "paths": [
                {
                    "path": "/",
                    "pathType": "Prefix",
                    "backend": {"service": {"name": f"{values.name}-web", "port": {"name": "http"}}},
                }
            ]
        },
    }
    about = metadata(values, "web", "web")
    about["annotations"] = {
        "nginx.ingress.kubernetes.io/proxy-buffering": "off",
        "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
        "nginx.ingress.kubernetes.io/proxy-body-size": "0",  # web bounds each body by its own limits
    }
    spec: Object = {"rules": [rule]}
    if values.web.ingress_class:
        spec = {"ingressClassName": values.web.ingress_class, **spec}
    if values.web.tls_secret:
        spec["tls"] = [{"hosts": [values.web.host], "secretName": values.web.tls_secret}]
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": about, "spec": spec}


def network_policies(values: Values) -> list[Object]:
    """Nothing comes in but to web; all parts reach DNS and the named peers; web and workers the public internet."""
    everything = {"app.kubernetes.io/instance": values.name, "app.kubernetes.io/name": "darkroom"}
    dns = {"ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}
    peers = [_to(peer) for peer in values.network.peers]
    inwards = [_of_namespace(values.network.ingress_namespace), _of_namespace(values.monitoring.namespace)]
    outside = [f"worker-{name}" for name in values.workers]
    return [
        _policy(
            values,
            "parts",
            {"matchLabels": everything},
            types=["Ingress", "Egress"],
            ingress=[],
            egress=[dns, *peers],
        ),
        _policy(
            values,
            "web",
            {"matchLabels": labels(values, "web")},
            types=["Ingress"],
            ingress=[{"from": inwards, "ports": [{"protocol": "TCP", "port": PORT}]}],
        ),
        _policy(
            values,
            "outside",
            {
                "matchLabels": everything,
                "matchExpressions": [
                    {"key": "app.kubernetes.io/component", "operator": "In", "values": ["web", *outside]}
                ],
            },
            types=["Egress"],
            egress=[
                {
                    "to": [
                        {"ipBlock": {"cidr": "0.0.0.0/0", "except": NOT_PUBLIC_4}},
                        {"ipBlock": {"cidr": "::/0", "except": NOT_PUBLIC_6}},
                    ],
                    "ports": [{"protocol": "TCP", "port": port} for port in (80, 443)],
                }
            ],
        ),
    ]


def _policy(values: Values, name: str, selector: Object, *, types: list[str], **rules: Any) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(values, name, "network"),
        "spec": {"podSelector": selector, "policyTypes": types, **rules},
    }


def _to(peer: Peer) -> Object:
    to = {"ipBlock": {"cidr": peer.cidr}} if peer.cidr else _of_namespace(peer.namespace)
    return {"to": [to], "ports": [{"protocol": "TCP", "port": port} for port in peer.ports]}


def _of_namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
