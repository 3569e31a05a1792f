"""The program that checks the settings of AI services: `python -m actors.entry.check_settings`.

`darkroom up` and `darkroom doctor` run it, since they import nothing of this package.  Exit status 0, or 2 with one
sentence on stderr.  It opens nothing and calls no service.
"""

from __future__ import annotations

import sys

from actors.registry.adapters import check_providers
from config.load_settings import SettingsError, load_settings
from supervisor.core.errors import SettingFault


def main() -> int:
    """The exit status."""
    try:
        check_providers(load_settings())
    except (SettingsError, SettingFault) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
