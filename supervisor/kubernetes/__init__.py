"""Plain Kubernetes manifests from one file of values."""
