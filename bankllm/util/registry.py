"""Registries of exchangeable parts: training methods, responders, statistics, load drivers and others.

    METHODS: Registry[Method] = Registry("training method", "bankllm.methods", "bankllm.training.methods")

    @METHODS.register("lora")
    class Lora: ...

    METHODS.get("lora")

A part of this package is one module in the registry's folder; the module registers the part when it is imported. A
part of another package is an entry point of the registry's group; the entry point's name is the part's name.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from threading import RLock
from typing import Generic, TypeVar

from bankllm.errors import UsageError

T = TypeVar("T")
Part = TypeVar("Part")


class Registry(Generic[T]):
    """Parts of one kind by name. The folder and the entry points are read at the first lookup."""

    def __init__(self, kind: str, group: str, folder: str) -> None:
        """`kind` names a part in error messages, `group` is the entry point group, `folder` the package to import."""
        self.kind, self.group, self.folder = kind, group, folder
        self._parts: dict[str, T] = {}
        self._loaded = False
        self._lock = RLock()

    def register(self, name: str) -> Callable[[Part], Part]:
        """Decorator that registers a part. Raises `UsageError` if the name is taken."""

        def add(part: Part) -> Part:
            self.add(name, part)  # type: ignore[arg-type]
            return part

        return add

    def add(self, name: str, part: T) -> None:
        """Register `part` under `name`. Raises `UsageError` if another part has that name."""
        if self._parts.setdefault(name, part) is not part:
            raise UsageError(f"There are two parts named {name!r} of kind {self.kind}. Rename one of them.")

    def get(self, name: str) -> T:
        """Return the part with this name. Raises `UsageError` for an unknown name, with the names that exist."""
        self._load()
        if name not in self._parts:
            raise UsageError(
                f"Unknown {self.kind} {name!r}. Expected one of: {', '.join(self)}. Another package can add one as an "
                f"entry point of the group {self.group}."
            )
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        """The names in alphabetical order, this package's parts first."""
        self._load()
        return iter(tuple(self._parts))

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._parts

    def _load(self) -> None:
        with self._lock:
            if self._loaded:
                return
            self._loaded = True  # set first, because a module may look up a part while it is imported
            package = importlib.import_module(self.folder)
            for module in pkgutil.iter_modules(getattr(package, "__path__", ()), self.folder + "."):
                importlib.import_module(module.name)
            self._parts = dict(sorted(self._parts.items()))  # a module that was imported before is registered first
            for entry in entry_points(group=self.group):
                self.add(entry.name, entry.load())
