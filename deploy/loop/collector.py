"""`collect` as a process beside the traffic: started, killed, stopped in order; and what its tables hold.

Knows the command, and the lake's events and groups by their ids.
"""

import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from deltalake import DeltaTable

from deploy.local.layout import ROOT, venv
from deploy.loop.turn import Plan, environment

STOP_LIMIT_S = 60.0


@dataclass
class Collector:
    """One process at a time, whose words go to `log`."""

    plan: Plan
    log: Path
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def start(self) -> None:
        command = [str(venv("") / "bin" / "python"), "-m", "training.retraining.collect"]
        command += map(str, self.plan.collecting)
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def stop(self) -> None:
        """It commits what it has read, and ends."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STOP_LIMIT_S)

    def kill(self) -> None:
        """At once (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_LIMIT_S)

    def ids(self, table: str) -> Counter[str]:
        """How often each event is in the events, or each group in the groups."""
        column = {"events": "event_id", "groups": "group_id"}[table]
        found = DeltaTable(str(self.plan.lake / table)).to_pyarrow_table(columns=[column])
        return Counter(found[column].to_pylist())
