"""The steps of a release into service: load, trial, promote, roll back, unload, prune.

One controller loads and unloads at a time; a way back (rollback, end of a trial) does not wait for it, since what it
needs stays loaded. A step that is refused leaves what serves, and all models that are needed, as they were. Knows the
order of things; files are contract.repository's and state's, Triton is tritons'.
"""

import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contract import tensors
from contract.errors import InputError
from contract.release import MANIFEST, Manifest, read_manifest, read_release
from contract.repository import CONTROL, EXPORT, Repository
from contract.rollout import Rollout
from deploy.releases import model_config, state
from deploy.releases.errors import ReleaseError, ServerError
from deploy.releases.history import PROMOTED, ROLLED_BACK, SHARES, TRIAL_ENDED, TRIAL_STARTED
from deploy.releases.server import Server
from deploy.releases.state import State
from deploy.releases.tensorrt import ONNX_RUNTIME, Setting
from deploy.releases.tritons import Tritons

PROOF_S = 1.5  # of what is loaded already; a Triton that is merely slow does not hold up a way back
ANSWERS_S = 20.0  # a live release that is silent for so long serves nobody


@dataclass(frozen=True)
class Controller:
    """What is done with the releases of one repository, on all Tritons that serve from it.

    `configure` gives the configuration of a model that is not loaded; a loaded one keeps the one that it runs with.
    `say` gets each line of progress. Every method raises ReleaseError or InputError when it refuses; `reason` goes into
    the history.
    """

    repository: Repository
    servers: Sequence[Server]
    say: Callable[[str], None]
    configure: Callable[[Path, str], Any] = model_config.of_repository
    drain_s: float = 60.0  # longest wait for rounds on a release that is to be unloaded
    announce: Callable[[], None] = lambda: None  # called after a change, which does not wait for it
    wait_s: float | None = None  # longest wait for another controller; contract.repository's if not given
    tensorrt: Setting = ONNX_RUNTIME  # how models run on a GPU

    def load(self, number: int) -> None:
        """Loads a release beside all that are needed, and has every model of it compute once.

        What nothing needs is dropped before. One beside it that cannot serve holds up nothing: it is told of.
        """
        with self._controlling(f"load {number}"):
            serving, manifest = state.read(self.repository), self._checked(number)
            beside, _ = self._whole(serving.needed - {number}, serving.served)
            names = " and ".join(map(str, beside))
            self.say(f"release {number} is whole; loading it" + (f" beside {names}" if beside else ""))
            self._tritons.tidy({number, *beside})  # what was loaded earlier and not promoted
            self._tritons.load({number: manifest})
            self._load_what_goes(beside)
        self.say(f"release {number} is loaded and every model of it has computed; next: trial {number}, or promote")

    def restore(self) -> None:
        """Loads what serves into Tritons that have just started; without a pointer, the newest release.

        The first release of a repository is promoted here, since nothing served before it. A release on trial, or a
        base, that cannot serve is taken out of the rollout: no request shall go to it. If the live one cannot, the
        others are loaded all the same, for a rollback. A rollout that cannot be read is written anew.
        """
        with self._controlling("restore"):
            with self._changing("restore"):
                before = self._readable(SHARES, "")
            number = self._newest() if before.live is None else before.live
            wanted, failed = self._whole([number, *sorted(before.needed - {number})], before.needed)
            failed |= self._load_what_goes(wanted)
            self._leave_out(before.rollout.releases & failed.keys())
            if number in failed:
                can_go_back = before.fallback is not None and before.fallback not in failed
                hint = "rollback, or load and promote another" if can_go_back else "load and promote another"
                raise ReleaseError(f"release {number} cannot serve: {failed[number]}; {hint}") from failed[number]
            if before.live is None:
                with self._changing("restore"):
                    after = replace(before, live=number, fallback=None)
                    state.change(self.repository, PROMOTED, before, after, "the first of this repository")
                self.say(f"release {number} is live: the first of this repository")

    def trial(self, number: int, share: float, reason: str = "") -> None:
        """Puts a loaded release on trial: of this share of requests, it draws half of the candidates."""
        with self._controlling(f"trial {number}"):
            _check_trial(state.read(self.repository), number, share)
            self._tritons.prove(self._checked(number))
            with self._changing(f"trial {number}"):
                before = state.read(self.repository)
                _check_trial(before, number, share)
                rollout = replace(before.rollout, trial=number, mixed_share=share)
                what = SHARES if before.trial == number else TRIAL_STARTED
                self._roll_out(what, before, rollout, reason)
        self.say(f"release {number} is on trial in {share:.1%} of requests")

    def end_trial(self, number: int | None = None, reason: str = "") -> None:
        """Takes the release on trial (if given: this one) out of service; it stays loaded until the next load.

        A rollout that cannot be read is written anew.
        """
        with self._changing("end-trial"):
            before = self._readable(TRIAL_ENDED, reason)
            if before.rollout.trial is None:
                self.say("no release is on trial")
                return
            if number not in (None, before.rollout.trial):
                raise ReleaseError(f"release {number} is not on trial; {before.rollout.trial} is")
            self._roll_out(TRIAL_ENDED, before, _without_trial(before.rollout), reason)
        self.say(f"release {before.rollout.trial} is not on trial any more; {before.live} serves")

    def shares(
        self, exploration: float | None = None, holdback: float | None = None, base: int | None = None, reason: str = ""
    ) -> None:
        """Changes shares of exploration and hold-back, and the base, which must be loaded; 0 for none.

        What is not given stays as it is.
        """
        with self._controlling("shares") if base else nullcontext():
            if base:
                self._tritons.prove(self._checked(base))
            with self._changing("shares"):
                before = state.read(self.repository)
                was = before.rollout
                rollout = replace(
                    was,
                    exploration_share=was.exploration_share if exploration is None else exploration,
                    holdback_share=was.holdback_share if holdback is None else holdback,
                    base=was.base if base is None else base or None,
                )
                self._roll_out(SHARES, before, rollout, reason)
        self.say(state.told(rollout))

    def promote(self, number: int, reason: str = "") -> None:
        """Puts a loaded release in service, which ends its trial; the one before stays loaded as the fallback.

        Releases that nothing needs are unloaded.
        """
        with self._controlling(f"promote {number}"):
            before = state.read(self.repository)
            if number == before.live:
                self.say(f"release {number} is live already")
                return
            if before.trial not in (None, number):
                raise ReleaseError(f"release {before.trial} is on trial: end-trial first, or promote that one")
            self._tritons.prove(self._checked(number))
            fallback = before.fallback
            if before.live is not None:
                if self._answers(before.live):
                    fallback = before.live
                else:
                    self.say(f"warning: release {before.live} does not compute and does not become the fallback")
            after = State(number, None if fallback == number else fallback, _without_trial(before.rollout))
            with self._changing(f"promote {number}"):
                if state.read(self.repository) != before:  # a way back does not wait for a promotion
                    raise ReleaseError("what serves was changed meanwhile; status says how, then try again")
                state.change(self.repository, PROMOTED, before, after, reason)
            self.say(f"release {number} is live" + (f"; the fallback is {after.fallback}" if after.fallback else ""))
            self._tritons.tidy(state.read(self.repository).needed)

    def rollback(self, reason: str = "") -> None:
        """Puts the release before in service again, which is loaded; the one that served becomes the fallback.

        A trial ends. Of the files only those are read that services read, and a Triton that is slow is not waited for:
        a way back must not take long.
        """
        with self._changing("rollback"):
            before, damage = state.as_it_is(self.repository)
            if before.fallback is None:
                hint = "; end-trial ends the trial" if before.trial else ""
                raise ReleaseError(f"there is no release to go back to: load and promote one{hint}")
            self._prove_soon(read_release(self.repository.release_dir(before.fallback)).manifest)
            after = State(before.fallback, before.live, _without_trial(before.rollout))
            state.change(self.repository, ROLLED_BACK, before, after, reason)
        self._tell_of(damage)
        self.say(f"release {after.live} is live again; {after.fallback} stays loaded")
        if before.trial:
            self.say(f"release {before.trial} is not on trial any more")

    def unload(self, number: int) -> None:
        """Drops a release that does not serve, say one that shall not be promoted."""
        with self._controlling(f"unload {number}"):
            if number in state.read(self.repository).needed:
                raise ReleaseError(f"release {number} is live, the fallback, on trial or the base: it stays loaded")
            self._tritons.unload_all_but(self._tritons.held() - {number})

    def prune(self, keep: int, *, stopped: bool = False) -> list[int]:
        """Deletes releases but the newest `keep`, those that are needed and all that a Triton still holds.

        What interrupted exports left goes, too. `stopped`: no Triton serves from this repository now.

        Returns:
            The numbers of the releases deleted.
        """
        with self._controlling("prune"), self.repository.lock(EXPORT, "prune", self.wait_s, self.say):
            held = set() if stopped else self._tritons.held()
            numbers = self.repository.numbers()
            needed = {*state.read(self.repository).needed, *held, *numbers[-max(keep, 1) :]}
            pruned = [number for number in numbers if number not in needed]
            for number in pruned:
                (self.repository.release_dir(number) / MANIFEST).unlink()  # first, so that no half release is one
            for folder in self._leftovers(held):
                shutil.rmtree(folder)
            return pruned

    @property
    def _tritons(self) -> Tritons:
        root, configure = self.repository.root, self.configure
        return Tritons(root, self.servers, self.say, configure, self.drain_s, self.tensorrt)

    @contextmanager
    def _controlling(self, doing: str) -> Iterator[None]:
        """One controller works; what a crash left half done is settled before it is read which releases are needed."""
        with self.repository.lock(CONTROL, doing, self.wait_s, self.say):
            with self._changing(doing):
                pass
            yield

    @contextmanager
    def _changing(self, doing: str) -> Iterator[None]:
        with state.changing(self.repository, doing, self.say, self.wait_s):
            yield
        self.announce()

    def _roll_out(self, what: str, before: State, rollout: Rollout, reason: str) -> None:
        """Changes what is served beside the live release; the salt is made once and kept."""
        rollout = replace(rollout, salt=rollout.salt or secrets.token_hex(16))
        if rollout != before.rollout:
            state.change(self.repository, what, before, replace(before, rollout=rollout), reason)

    def _readable(self, what: str, reason: str) -> State:
        """What serves, with a rollout that is written anew where it cannot be read. Only inside `_changing`."""
        found, damage = state.as_it_is(self.repository)
        if damage and found.live is not None:  # before the first promotion, which writes it
            state.change(self.repository, what, found, found, reason or "rollout.json could not be read")
            self._tell_of(damage)
        return found

    def _tell_of(self, damage: str) -> None:
        if damage:
            self.say(f"warning: {damage}; it is written anew, {state.WITHOUT}")

    def _load_what_goes(self, wanted: Mapping[int, Manifest]) -> dict[int, Exception]:
        """Loads of these releases what is not loaded, if it can be; returns, and says, why the others cannot serve."""
        lacking, failed = self._tritons.lacking(wanted), dict[int, Exception]()
        if len(lacking) > 1:
            try:
                self._tritons.load(lacking)
                wanted = {number: manifest for number, manifest in wanted.items() if number not in lacking}
            except ServerError as error:
                self.say(f"warning: {error}; now one release at a time")
        for number, manifest in wanted.items():
            try:
                if number in lacking:
                    self._tritons.load({number: manifest})
                else:
                    self._prove_soon(manifest)
            except ReleaseError as error:
                self.say(f"warning: release {number} cannot serve: {error}")
                failed[number] = error
        return failed

    def _prove_soon(self, manifest: Manifest) -> None:
        """Has every model compute once; a Triton that is too busy to answer so soon is taken at its word."""
        for late in self._tritons.prove_within(manifest, PROOF_S):
            self.say(f"warning: {late} did not answer in time; release {manifest.release} is taken to be loaded there")

    def _leave_out(self, numbers: set[int]) -> None:
        """Takes releases that cannot serve out of the rollout."""
        if not numbers:
            return
        with self._changing("restore"):
            before = state.read(self.repository)
            if before.rollout.trial in numbers:
                reason = f"release {before.rollout.trial} cannot serve"
                self._roll_out(TRIAL_ENDED, before, _without_trial(before.rollout), reason)
                self.say(f"warning: the trial ends: {reason}")
            before = state.read(self.repository)
            if before.rollout.base in numbers:
                reason = f"release {before.rollout.base} cannot serve"
                self._roll_out(SHARES, before, replace(before.rollout, base=None, holdback_share=0.0), reason)
                self.say(f"warning: the hold-back ends: {reason}")

    def _leftovers(self, held: set[int]) -> Iterator[Path]:
        """Folders of numbers that are no release and that nobody holds."""
        known = {*self.repository.numbers(), *held}
        for path in self.repository.root.glob("*/*"):
            number = path.name.removeprefix(".staging-")
            if path.is_dir() and number.isdigit() and int(number) not in known:
                yield path

    def _checked(self, number: int) -> Manifest:
        """A release whose files are as they were exported and fit this repository's contract."""
        manifest = self.repository.check(number)
        for model in manifest.models:
            config = model_config.of_repository(self.repository.root, model)
            model_config.check_shapes(config, tensors.shapes(manifest.sizes).get(model, {}))
        return manifest

    def _whole(
        self, numbers: Iterable[int], served: Collection[int]
    ) -> tuple[dict[int, Manifest], dict[int, Exception]]:
        """Of these releases those whose files are as they were, and what is wrong with the others.

        Raises:
            InputError: one that is served is damaged and in memory: loading its model again would end that.
        """
        whole, damaged = dict[int, Manifest](), dict[int, Exception]()
        for number in numbers:
            try:
                whole[number] = self._checked(number)
            except InputError as error:
                if number in served and any(number in held for s in self.servers for held in s.states().values()):
                    raise
                self.say(f"warning: release {number} is damaged and stays out: {error}")
                damaged[number] = error
        return whole, damaged

    def _newest(self) -> int:
        if not (numbers := self.repository.numbers()):
            raise ReleaseError(f"there is no release in {self.repository.root} yet: export one")
        return numbers[-1]

    def _answers(self, number: int) -> bool:
        try:
            return not self._tritons.prove_within(read_manifest(self.repository.release_dir(number)), ANSWERS_S)
        except (ReleaseError, InputError):
            return False


def _check_trial(serving: State, number: int, share: float) -> None:
    """Refuses a trial that would compare nothing."""
    if serving.live is None:
        raise ReleaseError("no release is live yet: promote one, then try another")
    if number == serving.live:
        raise ReleaseError(f"release {number} is live: a trial needs another beside it")
    if serving.trial not in (None, number):
        raise ReleaseError(f"release {serving.trial} is on trial: end-trial first, or promote that one")
    if not 0 < share <= 1:
        raise ReleaseError(f"the share of a trial is above 0 and at most 1, not {share:g}; end-trial ends one")


def _without_trial(rollout: Rollout) -> Rollout:
    return replace(rollout, trial=None, mixed_share=0.0)
