"""A task's life: submitted, admitted, claimed, reported, ended."""
