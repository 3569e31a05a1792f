"""What tests share: databases, pictures, waiting for conditions."""
