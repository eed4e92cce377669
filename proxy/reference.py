"""Writes the generated pages and files: `python -m proxy.reference` (`make docs`).

They are below the root of a checkout (default: the current directory). A test fails if
one is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .commands.text import commands_page
from .config.text import reference_page, sample_file
from .figures.page import metrics_page
from .module_text import modules_page


def generated_files() -> dict[str, str]:
    """Path below the root of the checkout -> its content."""
    return {
        "conf/terrace.toml": sample_file(),
        "docs/CONFIG.md": reference_page(),
        "docs/COMMANDS.md": commands_page(),
        "docs/METRICS.md": metrics_page(),
        "docs/MODULES.md": modules_page(),
    }


def main(argv: list[str]) -> int:
    root = Path(argv[0] if argv else ".")
    for name, text in generated_files().items():
        (root / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
