"""The settings of a provider of kind `comfyui`, read once.

`options`: `workflow`, the file; `outputs`: the nodes whose pictures count, all where it is not given;
`randomize_seeds`: whether a seed that is a number in the file is replaced by one of ours for each picture.  A server
behind a proxy that wants a key is given `secrets.KEY` as a bearer token; ComfyUI itself knows no keys.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import structlog

from actors.providers.comfyui.workflow import Workflow, read_workflow
from actors.providers.common.reading import (
    checked,
    read_texts,
    refuse_unknown,
    setting_name,
)
from actors.providers.common.service import HttpService, read_common
from config.provider import Provider, is_true
from config.settings import Settings
from config.workflow_seeds import FixedSeed
from supervisor.core.errors import SettingFault

log = structlog.get_logger(__name__)

_OPTIONS = ("workflow", "outputs", "randomize_seeds")
MOST_NODES_SAID = 20
_USUAL = {
    "code": ["$.error.type"],
    "message": ["$.node_errors.*.errors[*].details", "$.node_errors.*.errors[*].message", "$.error.message"],
}


@dataclass(frozen=True)
class ComfyService(HttpService):
    """base: the server's address.  outputs: ids of nodes, empty = all."""

    base: str
    workflow: Workflow
    outputs: tuple[str, ...]


@functools.cache
def _warn_of_repetition(name: str, seeds: tuple[FixedSeed, ...]) -> None:
    """Once a process."""
    advice = (
        "; ".join(map(str, seeds))
        or 'no node has a fixed "seed" or "noise_seed": look where it draws its noise'
    )
    log.warning(
        "workflow_repeats_itself",
        provider=name,
        reason="Without ${seed} every order with the same photo gives the same picture, and count may be 1 only.",
        advice=f"{advice}; or set options.randomize_seeds = true.",
    )


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
    common = read_common(name, provider, settings, usual=_USUAL)
    randomises = is_true(options.get("randomize_seeds"))
    workflow = checked(
        f"{here}__OPTIONS__WORKFLOW",
        lambda: read_workflow(str(options["workflow"]), common["secrets"], randomises=randomises),
    )
    outputs = read_texts(f"{here}__OPTIONS__OUTPUTS", options.get("outputs", []))
    missing = [node for node in outputs if node not in workflow.nodes]
    if missing:
        raise SettingFault(
            f"{here}__OPTIONS__OUTPUTS names node {missing[0]!r}, but the workflow has "
            f"{', '.join(workflow.nodes[:MOST_NODES_SAID])}{', …' if len(workflow.nodes) > MOST_NODES_SAID else ''}."
        )
    if workflow.repeats_itself:
        _warn_of_repetition(name, workflow.fixed_seeds)
    return ComfyService(
        **common,
        base=provider.url.rstrip("/"),
        workflow=workflow,
        outputs=outputs,
    )
