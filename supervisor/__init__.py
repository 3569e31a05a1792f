"""The heart of Darkroom: lifecycle, store, credits, rescue, change log, files, and the process supervisor."""
