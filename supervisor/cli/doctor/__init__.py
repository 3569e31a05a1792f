"""What `darkroom doctor` looks at."""
