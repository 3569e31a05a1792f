"""Rules for AI services that work far away: circuit breaker, states of jobs, times of polls."""
