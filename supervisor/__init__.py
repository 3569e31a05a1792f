"""The heart: rules, store and schema, files, the supervision of processes, and the command line."""
