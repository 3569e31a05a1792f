"""Code that tests share: databases, pictures, waiting for conditions."""
