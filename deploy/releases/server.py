"""One Triton by gRPC: what it has loaded, loading versions of a model, and proof that a version computes.

Loads go by gRPC, since a load by HTTP holds up inferences. Knows Triton's model control; no releases, files or order.
"""

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from deploy.releases import model_config
from deploy.releases.errors import LateError, NotLoadedError, ReleaseError, ServerError

ANSWER_S = 10.0  # for a question that needs no computing
INDEX_S = 5.0  # for what is loaded, where something waits that must not take long
NAME = "triton"  # in every Triton's certificate
GONE = ("", "UNAVAILABLE")  # states of a version that holds nothing any more


def every_address(given: Sequence[str]) -> list[str]:
    """Of a name with several addresses, such as a headless Service, all of them; whatever else is given, as it is.

    Raises:
        ReleaseError: a name has no address.
    """
    found: list[str] = []
    for address in given:
        host, _, port = address.rpartition(":")
        try:
            entries = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            raise ReleaseError(f"there is no Triton at {address}: {error}") from error
        of_family = [entry for entry in entries if entry[0] == entries[0][0]]  # both families name the same pods
        hosts = sorted({str(entry[4][0]) for entry in of_family})
        found += [f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in hosts] if hosts[1:] else [address]
    return list(dict.fromkeys(found))


def connected(address: str, certificates: Path | None) -> triton.InferenceServerClient:
    """tritonclient's own, with a folder of tls.crt, tls.key and ca.crt; None is clear text.

    One of several replicas is called by its address, which no certificate names: so each must have the name "triton".
    """
    if certificates is None:
        return triton.InferenceServerClient(address)
    return triton.InferenceServerClient(
        address,
        ssl=True,
        root_certificates=str(certificates / "ca.crt"),
        private_key=str(certificates / "tls.key"),
        certificate_chain=str(certificates / "tls.crt"),
        channel_args=[("grpc.ssl_target_name_override", NAME)],
    )


class Server:
    """A Triton with explicit model control.

    Every method raises ServerError when it does not answer; `limit_s` is for one load or one inference, `certificates`
    as for `connected`.
    """

    def __init__(self, address: str, limit_s: float = 600.0, certificates: Path | None = None) -> None:
        self.address = address
        self._limit_s = limit_s
        self._client = connected(address, certificates)

    def close(self) -> None:
        self._client.close()

    def states(self, limit_s: float = ANSWER_S) -> dict[str, dict[int, str]]:
        """Model → version → state, of all versions that Triton holds or is about to load or to drop."""
        with self._asking("for its index"):
            index = self._client.get_model_repository_index(client_timeout=limit_s)
        found: dict[str, dict[int, str]] = {}
        for entry in index.models:
            held = found.setdefault(entry.name, {})
            if entry.version.isdigit() and entry.state not in GONE:
                held[int(entry.version)] = entry.state
        return found

    def versions(self, model: str) -> set[int]:
        """The versions of a model that are ready."""
        return {number for number, state in self.states().get(model, {}).items() if state == "READY"}

    def config(self, model: str) -> Any | None:
        """The configuration that a loaded model runs with; None where no version is ready."""
        if not self.versions(model):
            return None
        with self._asking(f"for {model}'s configuration"):
            return self._client.get_model_config(model, client_timeout=ANSWER_S).config

    def load(self, model: str, config: Any, versions: set[int]) -> None:
        """Has exactly these versions loaded; what was loaded before answers until they are.

        Raises:
            ServerError: one of them is not ready afterwards. Those of before may, or may not, serve on: ask.
        """
        if not versions:
            with self._asking(f"to unload {model}"):
                self._client.unload_model(model, client_timeout=self._limit_s)
            return
        with self._asking(f"to load {model}"):
            override = model_config.serving(config, versions)
            self._client.load_model(model, config=override, client_timeout=self._limit_s)
        if missing := versions - self.versions(model):  # Triton only logs that a version is not there
            raise ServerError(f"{self.address} loaded {model} without version {min(missing)}")

    def prove(self, model: str, version: int, config: Any) -> None:
        """One real inference, with everything that the contract promises in the answer.

        Raises:
            ServerError: the version is not ready (NotLoadedError), fails, or answers something else.
        """
        with self._asking(_inference(model, version)):
            if not self._client.is_model_ready(model, str(version), client_timeout=ANSWER_S):
                raise NotLoadedError(f"{self.address} has not loaded version {version} of {model}")
            answer = self._client.infer(model, _inputs(config), str(version), client_timeout=self._limit_s)
        _check(answer, model, version, config)

    def prove_within(self, models: Sequence[str], version: int, limit_s: float) -> list[str]:
        """The same of several models at a time, for about as long as that, and INDEX_S for which are ready.

        Returns:
            The models that did not answer in time, in the order asked; they are ready unless Triton did not even say
            that in time.

        Raises:
            ServerError: a version is not ready (NotLoadedError), fails, or answers something else.
        """
        try:
            states = self.states(INDEX_S)
        except LateError:
            return list(models)
        end = time.monotonic() + limit_s
        for model in models:
            if states.get(model, {}).get(version) != "READY":
                raise NotLoadedError(f"{self.address} has not loaded version {version} of {model}")
        answers: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
        asked: dict[str, Any] = {}
        slow: set[str] = set()
        for model in models:
            left_s = end - time.monotonic()
            with _late(model, slow), self._asking(_inference(model, version)):
                config = self._client.get_model_config(model, client_timeout=left_s).config
                self._client.async_infer(
                    model, _inputs(config), lambda result, error, of=model: answers.put((of, error or result)),
                    str(version), client_timeout=left_s,
                )  # fmt: skip
                asked[model] = config
        for _ in asked:
            model, answer = answers.get()
            with _late(model, slow), self._asking(_inference(model, version)):
                if isinstance(answer, InferenceServerException):
                    raise answer
                _check(answer, model, version, asked[model])
        return [model for model in models if model in slow]

    def inferences(self) -> Mapping[tuple[str, int], int]:
        """How many inferences each loaded (model, version) has answered."""
        with self._asking("for its statistics"):
            statistics = self._client.get_inference_statistics(client_timeout=ANSWER_S)
        return {(s.name, int(s.version)): int(s.inference_stats.success.count) for s in statistics.model_stats}

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except InferenceServerException as error:
            if error.status() == f"StatusCode.{grpc.StatusCode.UNAVAILABLE.name}":
                raise ServerError(f"no Triton answers at {self.address}: does it run there?") from error
            if error.status() == f"StatusCode.{grpc.StatusCode.DEADLINE_EXCEEDED.name}":
                raise LateError(f"{self.address}, asked {what}, has not answered in time") from error
            raise ServerError(f"{self.address}, asked {what}, refuses: {error.message()}") from error


@contextmanager
def _late(model: str, slow: set[str]) -> Iterator[None]:
    """An answer that does not come in time is noted."""
    try:
        yield
    except LateError:
        slow.add(model)


def _inference(model: str, version: int) -> str:
    return f"version {version} of {model} for an inference"


def _inputs(config: Any) -> list[Any]:
    """One sample of zeros."""
    inputs = []
    for name, array in model_config.sample(config).items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        inputs.append(tensor.set_data_from_numpy(array))
    return inputs


def _check(answer: Any, model: str, version: int, config: Any) -> None:
    """An answer has everything that the contract promises."""
    for name, shape in model_config.outputs(config):
        found = answer.as_numpy(name)
        if found is None or found.shape != shape or not np.isfinite(found).all():
            was = "nothing" if found is None else f"{list(found.shape)}"
            raise ServerError(
                f"version {version} of {model} answers {was} for {name}, not {list(shape)} finite numbers"
            )
