"""The checks of `darkroom doctor`."""
