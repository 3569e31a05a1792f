"""Other queues on the same PostgreSQL, each as its documentation shows it, for comparison in the same run."""
