"""Rules for remote AI services: circuit breaker, states of jobs, times of polls."""
