"""Who is there: what the processes of a run settle before `jax.distributed` takes over.

`jax.distributed` aborts a process, with a stack trace of C++, when others don't come, and goes on without a word when they
disagree on how many they are. So process 0 first hears who is there, on the port that JAX takes over after it.
"""

import contextlib
import json
import socket
import time
from collections.abc import Mapping

_PATIENCE_SECONDS = 5.0  # with a connection that says nothing


def call_the_roll(
    coordinator_address: str, *, process_count: int, process_index: int, timeout_seconds: float
) -> None:
    """Returns when every process has said that it is there, and all agree on their number.

    Raises:
      ValueError: if processes disagree, or two have the same index.
      TimeoutError: if some of them do not come in time; in process 0 it says which.
    """
    host, _, port = coordinator_address.rpartition(":")
    deadline = time.monotonic() + timeout_seconds
    if process_index == 0:
        _hear_the_others(int(port), process_count, deadline, timeout_seconds)
    else:
        _say_here(host.strip("[]"), int(port), process_count, process_index, deadline, timeout_seconds)


def _hear_the_others(port: int, process_count: int, deadline: float, timeout_seconds: float) -> None:
    present: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as sockets:
        server = sockets.enter_context(_listen(port))
        try:
            while len(present) < process_count - 1:
                server.settimeout(max(deadline - time.monotonic(), 0.001))
                connection = sockets.enter_context(server.accept()[0])
                said = _receive(connection, min(deadline, time.monotonic() + _PATIENCE_SECONDS))
                if isinstance(said, dict) and {"process_index", "process_count"} <= set(said):
                    _check_in(connection, said, present, process_count)
        except TimeoutError:
            missing = [str(index) for index in range(1, process_count) if index not in present]
            message = (
                f"Of {process_count} processes, these did not come within {timeout_seconds:g} s: {', '.join(missing[:20])}"
                f"{', …' if len(missing) > 20 else ''}; see their logs, or raise --initialization_timeout."
            )
            _send_all(present, {"error": message})
            raise TimeoutError(message) from None
        except ValueError as error:
            _send_all(present, {"error": str(error)})
            raise
        _send_all(present, {"all": process_count})


def _listen(port: int) -> socket.socket:
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        return socket.create_server(
            ("", port), family=family, backlog=1024, dualstack_ipv6=family == socket.AF_INET6
        )
    except OSError as error:
        raise ValueError(
            f"Process 0 cannot listen on port {port} ({error.strerror or error}); choose another port in "
            "--coordinator_address."
        ) from error


def _check_in(
    connection: socket.socket,
    said: Mapping[str, int],
    present: dict[int, socket.socket],
    process_count: int,
) -> None:
    index = said["process_index"]
    error = None
    if said["process_count"] != process_count:
        error = (
            f"process_count={process_count} in process 0, but {said['process_count']} in process {index}; give all "
            "processes the same."
        )
    elif index in present or not 0 < index < process_count:
        error = (
            f"process_index={index} came twice; give every process its own, from 0 to {process_count - 1}."
        )
    present.setdefault(index, connection)
    if error:
        _send(connection, {"error": error})
        raise ValueError(error)


def _say_here(
    host: str, port: int, process_count: int, process_index: int, deadline: float, timeout_seconds: float
) -> None:
    trouble = "nothing answered"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, port), timeout=min(left, 10)) as connection:
                _send(connection, {"process_index": process_index, "process_count": process_count})
                reply = _receive(connection, deadline)
                if isinstance(reply, dict) and "error" in reply:
                    raise ValueError(reply["error"])
                if isinstance(reply, dict) and "all" in reply:
                    return
                trouble = "something else answers there"
        except OSError as error:
            trouble = error.strerror or str(error)
        time.sleep(min(max(deadline - time.monotonic(), 0), 0.2))
    raise TimeoutError(
        f"Process {process_index} of {process_count} did not reach process 0 at {host}:{port} within {timeout_seconds:g} s "
        f"({trouble}); check --coordinator_address, and that process 0 runs."
    )


def _send(connection: socket.socket, message: Mapping[str, object]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _send_all(connections: Mapping[int, socket.socket], message: Mapping[str, object]) -> None:
    for connection in connections.values():
        with contextlib.suppress(OSError):  # it is gone, and will be missed by jax.distributed
            _send(connection, message)


def _receive(connection: socket.socket, deadline: float) -> object:
    """One line of JSON; None for anything else."""
    connection.settimeout(max(deadline - time.monotonic(), 0.001))
    try:
        with connection.makefile("rb") as lines:
            return json.loads(lines.readline(4096))
    except (ValueError, OSError):
        return None
