"""`python -m metrics.monitoring`: write the rules, their tests and the dashboard anew."""

from __future__ import annotations

from metrics.monitoring.files import contents


def main() -> None:
    """Write the files that differ, and print their names."""
    for path, text in contents().items():
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
