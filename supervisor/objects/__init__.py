"""The store of uploads and results: a local folder or an S3 bucket."""
