"""Rules and lists that change while a job runs: one loader a process reads them in the background.

A scoring step never waits for it after the first load: it takes the rules that are there, whole, by one attribute. A
version that can't be used leaves the one before in place, and the loader keeps what is wrong with it for the step to
report.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol

from transforms.events import DeadLetter, Reason
from transforms.rules import RuleSet
from transforms.yaml_document import FileError

_LOG = logging.getLogger(__name__)

CLAIM_SECONDS = 60.0
"""How long after a failure was handed out, with no word of its delivery, it is handed out again."""


class Content(NamedTuple):
    """What a source holds, not yet looked into.

    Attributes:
      digest: of all of it; the same content has the same.
      lists_digest: of the lists alone.
      parts: for the source's own use while it builds.
    """

    digest: str
    lists_digest: str
    parts: Any


class RuleSource(Hashable, Protocol):
    """Where rules and lists come from. Sources that are equal share a loader, so they are picklable values."""

    @property
    def refresh_seconds(self) -> float:
        """How often to look for a change."""
        ...

    @property
    def name(self) -> str:
        """Where it is, for people."""
        ...

    @property
    def paths(self) -> tuple[tuple[str, str], ...]:
        """The paths that it reads, each with the option that gave it."""
        ...

    def fetch(self) -> Content:
        """What it holds now.

        Raises:
          OSError: it can't be read.
        """
        ...

    def build(self, content: Content, before: tuple[Content, RuleSet] | None) -> RuleSet:
        """The rules of a content, checked.

        Args:
          before: the last content that was right, without its parts, and its rules: what hasn't changed need not be
            built again.

        Raises:
          FileError: the content is wrong.
        """
        ...


class Failure(NamedTuple):
    """A version that isn't used.

    Attributes:
      reason: `RULES_REJECTED` where its content is wrong, `RULES_UNREADABLE` where it can't be read.
      digest: of the content; empty where it can't be read.
      kept_version, kept_lists_version: of the rules and lists that stay in use.
      at_ms: when that was found, epoch ms.
    """

    reason: str
    source: str
    digest: str
    message: str
    kept_version: str
    kept_lists_version: str
    at_ms: int

    def dead_letter(self) -> DeadLetter:
        """A dead letter of the control message that the new version was."""
        control = {
            "source": self.source,
            "content_digest": self.digest,
            "kept_rules_version": self.kept_version,
            "kept_lists_version": self.kept_lists_version,
        }
        kept = f"version {self.kept_version} stays in use; mend the file"
        return DeadLetter(
            self.reason, None, f"{self.message}; {kept}", json.dumps(control).encode(), self.at_ms, self.source
        )


class Loader:
    """Reads a source at once, and then again and again in a thread of its own.

    Args:
      fallback: rules to start with where the first load fails; None to raise then.

    Attributes:
      rules: those in use; replaced as a whole.
      has_news: whether there is something to report.

    Raises:
      OSError, FileError: the first load failed, and there is no fallback.
    """

    def __init__(self, source: RuleSource, fallback: RuleSet | None = None) -> None:
        self.has_news = False
        self._source = source
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._counts: Counter[str] = Counter()
        self._failure: Failure | None = None
        self._claimed_until = 0.0
        self._failed_with = ""
        self._used: tuple[Content, RuleSet] | None = None
        if fallback is None:
            content = source.fetch()
            self.rules = source.build(content, None)
            self._use(content, self.rules)
        else:
            self.rules = fallback
            self.refresh()
        self._start()

    def refresh(self) -> None:
        """Looks for a change, and swaps the rules if there is one that is right."""
        try:
            content = self._source.fetch()
        except OSError as error:
            self._fail(Reason.RULES_UNREADABLE, "", str(error))
            return
        if self._used is not None and content.digest == self._used[0].digest:
            self._failed_with = ""
            return
        if content.digest == self._failed_with:
            return
        try:
            rules = self._source.build(content, self._used)
        except FileError as error:
            self._fail(Reason.RULES_REJECTED, content.digest, str(error))
            return
        self._use(content, rules)
        self._failed_with = ""
        if (rules.version, rules.lists.version) != (self.rules.version, self.rules.lists.version):
            _LOG.info("%s: rules %s, lists %s", self._source.name, rules.version, rules.lists.version or "none")
            self.rules = rules
            self._count("reload.swapped")

    def claim(self) -> Failure | None:
        """The failure to report now, if any. Say `delivered` when it is out, or it comes again after a while."""
        now = time.monotonic()
        with self._lock:
            if self._failure is None or now < self._claimed_until:
                return None
            self._claimed_until = now + CLAIM_SECONDS
            return self._failure

    def delivered(self, failure: Failure) -> None:
        """The report of a failure is out."""
        with self._lock:
            if self._failure is failure:
                self._failure = None
                self.has_news = bool(self._counts)

    def take_counts(self) -> Counter[str]:
        """What happened since the last call, by name of counter."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
            self.has_news = self._failure is not None
            return taken

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()

    def _use(self, content: Content, rules: RuleSet) -> None:
        # Not its parts: the files of a million entries would stay in memory beside them.
        self._used = content._replace(parts=None), rules

    def _fail(self, reason: str, digest: str, message: str) -> None:
        self._count(f"reload.{reason.removeprefix('RULES_').lower()}")
        if self._failed_with == (digest or reason):
            return
        self._failed_with = digest or reason
        _LOG.error("rules are not replaced, version %s stays in use: %s", self.rules.version, message)
        versions = self.rules.version, self.rules.lists.version
        failure = Failure(reason, self._source.name, digest, message, *versions, time.time_ns() // 1_000_000)
        with self._lock:
            self._failure, self._claimed_until = failure, 0.0

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1
            self.has_news = True

    def _start(self) -> None:
        threading.Thread(target=self._run, name="rules-loader", daemon=True).start()

    def _run(self) -> None:
        try:
            # Spread, so that workers that start together don't all read at once for good.
            while not self._stopped.wait(self._source.refresh_seconds * random.uniform(0.9, 1.1)):
                self.refresh()
        finally:
            # An error that isn't foreseen ends the thread with its traceback in the log, and must not end reloading.
            if not self._stopped.is_set():
                self._start()


_LOADERS: dict[RuleSource, Loader] = {}
_LOADERS_LOCK = threading.Lock()


def loader_of(source: RuleSource, fallback: RuleSet | None = None) -> Loader:
    """The loader of a source: one a process, made at the first call.

    Raises:
      OSError, FileError: as `Loader`.
    """
    with _LOADERS_LOCK:
        if source not in _LOADERS:
            _LOADERS[source] = Loader(source, fallback)
        return _LOADERS[source]


def stop_loader(source: RuleSource) -> None:
    """Ends the loader of a source, if there is one."""
    with _LOADERS_LOCK:
        loader = _LOADERS.pop(source, None)
    if loader is not None:
        loader.stop()
