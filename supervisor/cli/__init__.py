"""The command line, `darkroom …`: one file for each group of commands."""
