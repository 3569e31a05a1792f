"""The pages of docs/servers, and what stands in their code blocks."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ServerPage:
    """name: of the file, without its ending."""

    name: str
    text: str

    def blocks(self, language: str) -> list[str]:
        return re.findall(rf"```{language}\n(.*?)```", self.text, re.DOTALL)

    def block(self, language: str) -> str:
        """The only block in a language."""
        (block,) = self.blocks(language)
        return str(block)

    def provider(self, url: str, folder: Path) -> dict[str, Any]:
        """The settings of the page's provider, with the address of a server that runs; its path is the page's.
        folder: where the page's own files are put."""
        (made,) = tomllib.loads(self.block("toml"))["providers"].values()
        host, path = re.fullmatch(r"(https?://[^/]+)(.*)", made["url"]).groups()  # type: ignore[union-attr]
        provider: dict[str, Any] = {**made, "url": url + path, "allow_private_addresses": True}
        assert host.startswith("http://127.0.0.1")
        if workflow := provider.get("options", {}).get("workflow"):
            file = folder / workflow
            file.write_text(self.block("json"), encoding="utf-8")
            provider["options"] = {**provider["options"], "workflow": str(file)}
        if provider.get("preset") in ("litellm", "vllm-omni"):
            provider["secrets"] = {"KEY": "sk-master-1234"}
        return provider


def server_pages(root: Path) -> list[ServerPage]:
    """All of them, by name."""
    files = sorted((root / "docs" / "servers").glob("*.md"))
    return [ServerPage(file.stem, file.read_text(encoding="utf-8")) for file in files]
