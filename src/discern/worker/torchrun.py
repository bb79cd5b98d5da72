"""`python -m discern.worker.torchrun ARGUMENTS`: torchrun, with its account of failures in a file.

torchrun answers 1 whatever a rank's exit code was, under a page of text. The launcher tells a
failure in our own form, from what the ranks left and from the codes that are noted here.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from discern.base.errors import INTERRUPTED, OK, RUN_FAILURE
from discern.launch.rank_outcomes import outcome_folder, write_failures


def main(arguments: Sequence[str]) -> int:
    """Run torchrun; gives 0, 1 if a rank failed, 130 after a signal."""
    logging.disable(logging.ERROR)  # its account of a failure, which is told elsewhere
    try:
        torchrun(list(arguments))
    except ChildFailedError as error:
        folder = outcome_folder()
        if folder is not None:
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
            write_failures(folder, codes)
        return RUN_FAILURE
    except SignalException:
        return INTERRUPTED
    return OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
