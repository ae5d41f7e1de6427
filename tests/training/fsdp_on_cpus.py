"""``comsl`` under accelerate launch with FSDP on a machine without GPUs: ``-m tests.training.fsdp_on_cpus train ...``.

Accelerate offers FSDP for several GPUs only; torch's own works on CPUs, and that is what is tested with it. With
KILL_AT=N in the environment every process kills itself at step N.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from accelerate import DistributedType, PartialState

from comsl.cli import main
from comsl.training.trainer import JointTrainer
from tests.training.processes import kill_self


def offer_fsdp() -> None:
    original = PartialState.__init__

    def init(self: PartialState, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = init  # type: ignore[method-assign]


def watch_steps(kill_at: int | None) -> None:
    original = JointTrainer.training_step

    def training_step(self: JointTrainer, *args: Any, **kwargs: Any) -> Any:
        assert self.is_fsdp_enabled
        assert self.accelerator.is_fsdp2
        if self.state.global_step == kill_at:
            kill_self()
        return original(self, *args, **kwargs)

    JointTrainer.training_step = training_step  # type: ignore[method-assign]


if __name__ == "__main__":
    offer_fsdp()
    watch_steps(int(os.environ["KILL_AT"]) if "KILL_AT" in os.environ else None)
    sys.exit(main())
