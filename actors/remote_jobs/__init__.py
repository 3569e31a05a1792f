"""Polls and cancels of jobs that remote services work on."""
