"""The environment before the test modules were imported, whose libraries write into it.

cv2 sets LD_LIBRARY_PATH, torch's compiler its cache folder, OpenMP its switches. A child must not
inherit them: `discern` is started by a shell that has none, and a warm child may differ from its
parent in nothing that an import reads.
"""

from __future__ import annotations

import os

FIRST = dict(os.environ)
_written: set[str] = set()


def note_imports() -> None:
    """What differs now was written by imports: called once all test modules are imported."""
    names = FIRST.keys() | os.environ.keys()
    _written.update(name for name in names if FIRST.get(name) != os.environ.get(name))


def without_imports() -> dict[str, str]:
    """The environment now, with what imports wrote put back as it was."""
    kept = {name: text for name, text in os.environ.items() if name not in _written}
    return kept | {name: FIRST[name] for name in _written if name in FIRST}
