"""The settings of a provider of kind `comfyui`, read once.

`options`: `workflow`, the file; `outputs`: the nodes whose pictures count, all where it is not given.  A server behind
a proxy that wants a key is given `secrets.KEY` as a bearer token; ComfyUI itself knows no keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.providers.comfyui.workflow import Workflow, read_workflow
from actors.providers.common.answers import Rules
from actors.providers.common.reading import (
    checked,
    read_rules,
    read_secrets,
    read_texts,
    refuse_unknown,
    setting_name,
)
from config.settings import Provider, Settings
from supervisor.core.errors import SettingFault

_OPTIONS = ("workflow", "outputs")
_USUAL = {
    "code": ["$.error.type"],
    "message": ["$.node_errors.*.errors[*].details", "$.node_errors.*.errors[*].message", "$.error.message"],
}


@dataclass(frozen=True)
class ComfyService:
    """base: the server's address.  outputs: ids of nodes, empty = all."""

    name: str
    base: str
    workflow: Workflow
    outputs: tuple[str, ...]
    rules: Rules
    answer_bytes: int
    may_bill_twice: bool
    key: str = field(default="", repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_service(name: str, provider: Provider, settings: Settings) -> ComfyService:
    """Raises SettingFault with the setting's name."""
    here = setting_name(name)
    options = provider.options
    refuse_unknown(f"{here}__OPTIONS", options, _OPTIONS)
    if not provider.url:
        raise SettingFault(
            f"{here}__URL is not set, but must be ComfyUI's address, such as http://127.0.0.1:8188."
        )
    if not options.get("workflow"):
        raise SettingFault(
            f"{here}__OPTIONS__WORKFLOW is not set, but must be the path of a workflow in API format."
        )
    secrets = read_secrets(provider)
    return ComfyService(
        name=name,
        base=provider.url.rstrip("/"),
        workflow=checked(
            f"{here}__OPTIONS__WORKFLOW", lambda: read_workflow(str(options["workflow"]), secrets)
        ),
        outputs=read_texts(f"{here}__OPTIONS__OUTPUTS", options.get("outputs", [])),
        rules=read_rules(name, provider, settings, usual=_USUAL),
        answer_bytes=provider.limits.answer_bytes,
        may_bill_twice=provider.may_bill_twice,
        key=secrets.get("KEY", ""),
        secrets=secrets,
    )
