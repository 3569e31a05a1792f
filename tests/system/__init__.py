"""Tests that need a browser, Node, Prometheus or network namespaces."""
