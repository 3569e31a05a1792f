"""SQL that all folders share: conditions, rows, JSON, the order of locks, refused rows."""
