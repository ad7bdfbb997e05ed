"""What no pool can be under: bare containers, a bare hand-over, and what one writes without a library."""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import Any

from .driver import Driver, Spec


def bare_list(spec: Spec) -> Driver:
    resources = [spec.open() for _ in range(spec.capacity)]
    return Driver(resources.pop, resources.append)


def bare_queue(spec: Spec) -> Driver:
    lifo: queue.LifoQueue[Any] = queue.LifoQueue(spec.capacity)
    for _ in range(spec.capacity):
        lifo.put(spec.open())
    return Driver(lifo.get, lifo.put)


def lifoqueue_pool(spec: Spec) -> Driver:
    """What one writes without a library: a LifoQueue of resources that are opened when first taken."""
    lifo: queue.LifoQueue[Any] = queue.LifoQueue(spec.capacity)
    for _ in range(spec.capacity):
        lifo.put(None)

    def take() -> Any:
        resource = lifo.get(timeout=spec.timeout)
        if resource is None:
            try:
                resource = spec.open()
            except BaseException:
                lifo.put(None)
                raise
        return resource

    return Driver(take, lifo.put)


def bare_handover(spec: Spec) -> Driver:
    """The least that serves waiting threads in their order: a list of resources, and a line of locks to wake.

    What it has over `lifoqueue-pool` in time is what order costs on this machine, whatever the pool: the resource lies
    idle while the thread that it was given to wakes up.
    """
    free = [spec.open() for _ in range(spec.capacity)]
    line: deque[tuple[threading.Lock, list[Any]]] = deque()

    def take() -> Any:
        if free and not line:
            try:
                return free.pop()
            except IndexError:
                pass
        lock = threading.Lock()
        given: list[Any] = []
        lock.acquire()
        line.append((lock, given))
        serve()
        lock.acquire()
        return given[0]

    def serve() -> None:
        while free and line:
            try:
                resource = free.pop()
            except IndexError:
                return
            try:
                lock, given = line.popleft()
            except IndexError:
                free.append(resource)
            else:
                given.append(resource)
                lock.release()

    def put(resource: Any) -> None:
        free.append(resource)
        if line:
            serve()

    return Driver(take, put)
