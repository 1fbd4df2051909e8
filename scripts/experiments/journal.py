"""A file that remembers what a search measured: a JSON object a line, only ever appended to, so that whoever is killed at any
moment has all but what was under way.

Each line carries a check of itself and of all lines before it. A line is written by one call: a kill leaves it whole or not there.
So whatever does not fit is damage, and is an error of one line."""
import fcntl
import json
import os
import zlib

from subject import Wrong


class Journal:
    """`head` says what is searched; a file of another search is refused. Replays the old entries one after another, then
    appends new ones. One process at a time."""

    def __init__(self, path, head):
        self.path, self.check, self.entries, self.place = path, 0, [], 0
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise Wrong("{}: {}".format(path, error.strerror))
        try:
            self.open(head)
        except Wrong:
            os.close(self.file)
            raise

    def open(self, head):
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Wrong("{}: another search is at work with it".format(self.path))
        self.read(self.path.read_bytes())
        if not self.entries:
            self.append(head)
        elif self.entries[0] != head:
            differs = [name for name in head if self.entries[0].get(name) != head[name]]
            raise Wrong("{}: of another search ({} differs): remove it, or choose another --name".format(
                self.path, ", ".join(differs) or "the head"))
        self.place = 1

    def read(self, data):
        lines = data.split(b"\n")
        if lines[-1]:
            raise Wrong("{}: line {} is cut off: remove that line, or the file".format(self.path, len(lines)))
        for number, line in enumerate(lines[:-1], 1):
            check, _, text = line.partition(b" ")
            expected = zlib.crc32(text, self.check)
            try:
                entry = json.loads(text)
            except ValueError:
                entry = None
            if check != b"%08x" % expected or not isinstance(entry, dict):
                raise Wrong("{}: line {} is damaged: remove it and what follows, or the file".format(self.path, number))
            self.check = expected
            self.entries.append(entry)

    def append(self, entry):
        text = json.dumps(entry, sort_keys=True).encode()
        self.check = zlib.crc32(text, self.check)
        line = b"%08x %s\n" % (self.check, text)
        if os.write(self.file, line) != len(line):
            raise Wrong("{}: no room to write".format(self.path))
        os.fsync(self.file)
        self.entries.append(entry)

    def replayed(self):
        """The next old entry, or None when all have been seen."""
        if self.place == len(self.entries):
            return None
        self.place += 1
        return self.entries[self.place - 1]

    def add(self, entry):
        self.append(entry)
        self.place = len(self.entries)
