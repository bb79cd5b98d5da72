"""An augmentation of one's own, by import path: a policy, a framing, or one operation.

Owns the joining of one operation or framing to what the data needs besides it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from discern.base.errors import ConfigError
from discern.base.plugins import check_arguments, open_import_path
from discern.feed.augment import Augment, PhotoAugment, Policy, SmallImageAugment, Step
from discern.feed.operations import Mirror
from discern.feed.policies import PolicyContext

CONTEXT = "context"


def own_augment(
    name: str, context: PolicyContext, arguments: Mapping[str, Any] | None = None
) -> Augment:
    """What `name` makes of `arguments`; a parameter `context` is given the PolicyContext.

    A Policy, or a record of small images or photos, is taken as it is. One operation (see
    `operations.PixelOperation`) comes behind the data's own crop and mirror; a framing (`frame`
    and `draws`) stands alone. Raises ConfigError.
    """
    given, where = dict(arguments or {}), f"augment '{name}'"
    target = open_import_path(name, where="augment")
    check_arguments(target, given, where=where, given=(CONTEXT,))
    if CONTEXT in inspect.signature(target).parameters:
        given[CONTEXT] = context
    made = target(**given)
    if isinstance(made, Policy | SmallImageAugment | PhotoAugment):
        return made
    if all(hasattr(made, part) for part in ("draws", "gentle", "apply")):
        mirror = (Step(operation=Mirror(), probability=0.5),) if context.flip else ()
        crop = replace(context.crop, flip=False)
        return Policy(name=name, framing=crop, steps=(*mirror, Step(operation=made)))
    if all(hasattr(made, part) for part in ("draws", "frame")):
        return Policy(name=name, framing=made)
    raise ConfigError(
        "not an augmentation",
        where=where,
        got=type(made).__name__,
        expected="a Policy, an operation with draws, gentle and apply(images, rows), or a framing "
        "with draws and frame(pixels, row, preprocess)",
    )
