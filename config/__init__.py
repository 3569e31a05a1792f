"""Settings: one frozen value, checked once, handed down.  The lowest package: it imports none of the others."""

from config.settings import Settings, SettingsError, load_settings

__all__ = ["Settings", "SettingsError", "load_settings"]
