"""/metrics, dashboard and alerts."""
