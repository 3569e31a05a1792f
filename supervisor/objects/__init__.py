"""Where uploads and results lie: a local folder or an S3 bucket."""
