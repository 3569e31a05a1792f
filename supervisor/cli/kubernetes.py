"""`darkroom kubernetes`: manifests from one file of values."""

from __future__ import annotations

import importlib.resources
import re
import shutil
from pathlib import Path
from typing import Any

import click

from supervisor.cli.base import Failed, WrongUsage

EXAMPLES = ("small", "large", "gpu")
SAYS_WHENCE = "# Made by `darkroom kubernetes` from a file of values: change that, and make this anew.\n"


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="write a file for each part, and kustomization.yaml; without it, print one stream")  # fmt: skip
@click.option(
    "--example", type=click.Choice(EXAMPLES), help="put example values into the folder PATH instead"
)
def kubernetes(path: Path, output: Path | None, example: str | None) -> None:
    """Make plain Kubernetes manifests from one file of values.

    PATH is the file of values, in TOML.  The settings in it are checked as the parts check them.

    \b
    darkroom kubernetes --example small my-system      # values.toml to begin with
    darkroom kubernetes my-system/values.toml --output my-system/base
    darkroom kubernetes my-system/values.toml | kubectl apply --dry-run=server -f -
    """
    if example is not None:
        _copy_example(example, path)
        return
    texts = rendered(path)
    if output is None:
        for name, text in texts.items():
            if name != "kustomization.yaml":
                click.echo(text, nl=False)
        return
    output.mkdir(parents=True, exist_ok=True)
    _refuse_foreign(output, set(texts))
    for name, text in texts.items():
        (output / name).write_text(text, encoding="utf-8")
        click.echo(f"wrote {output / name}")


def rendered(path: Path) -> dict[str, str]:
    """The texts of all files, by name.  Raises WrongUsage."""
    from supervisor.kubernetes.manifests import manifests
    from supervisor.kubernetes.values import ValuesError, read_values

    yaml = _yaml()
    try:
        values, settings, files = read_values(path)
    except ValuesError as error:
        raise WrongUsage(str(error)) from None
    alerts = importlib.resources.files("metrics").joinpath("alerts.yml").read_text(encoding="utf-8")
    made = manifests(values, settings, files, yaml.safe_load(alerts)["groups"])
    return {
        name: SAYS_WHENCE + "".join("---\n" + _dumped(yaml, each) for each in objects)
        for name, objects in made.items()
    }


# What kubectl, or a reader of YAML 1.2, takes for a number or a truth value, though PyYAML (YAML 1.1) does not.
OTHERS_NUMBERS = re.compile(
    r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|0o[0-7_]+|[yYnN]|[-+]?0[bx].*"
)
OTHER_LINE_ENDS = frozenset("\r\x85\u2028\u2029")  # YAML reads \n for them, unless they are escaped
BEGINNINGS = list("+-.0123456789yYnN")


def _dumped(yaml: Any, value: Any) -> str:
    """Without anchors: what stands twice is written twice, for readers and `kubectl diff`.  Files keep their lines."""

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

        def represent_text(self, text: str) -> Any:
            style = '"' if OTHER_LINE_ENDS & set(text) else "|" if "\n" in text else None
            return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, Dumper.represent_text)
    Dumper.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(f"^(?:{OTHERS_NUMBERS.pattern})$"), BEGINNINGS
    )
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110))


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise Failed("This command needs PyYAML: pip install 'darkroom-queue[kubernetes]'.") from None
    return yaml


def _copy_example(name: str, folder: Path) -> None:
    source = importlib.resources.files("supervisor").joinpath("kubernetes", "examples", name)
    folder.mkdir(parents=True, exist_ok=True)
    for each in sorted(source.iterdir(), key=lambda file: file.name):
        target = folder / each.name
        if target.exists():
            raise Failed(f"{target} is there already; name another folder.")
        with importlib.resources.as_file(each) as file:
            shutil.copyfile(file, target)
        click.echo(f"wrote {target}")


def _refuse_foreign(folder: Path, ours: set[str]) -> None:
    """A file of a pool that is no longer in the values would go on being applied by hand."""
    stale = sorted(file.name for file in folder.glob("*.yaml") if file.name not in ours)
    if stale:
        raise Failed(f"{folder / stale[0]} is not of these values; remove it, or name another folder.")


COMMANDS = [kubernetes]
