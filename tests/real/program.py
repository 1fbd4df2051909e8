"""What a real program is to the tests: what it needs, what it does, and which of its output must be the same under every
allocator."""
import os

from measuring import find

FULL, QUICK = "full", "quick"  # a job takes 2 to 10 seconds on the system's malloc, or one or two


class Program:
    name = ""
    about = ""
    executables = ()  # what must be installed
    packages = ()     # Debian's packages that have it
    environment = {}
    links_allocator = False
    refuses_root = False  # as root, its processes are started as another user
    allocates_with = ("malloc", "free")  # what it calls, and so must be bound to the allocator

    def missing(self):
        """What is not installed, as text; '' if nothing."""
        return ", ".join(name for name in self.executables if not find(name))

    def target(self):
        """The file of the program that does the work (and so must use the allocator)."""
        return find(self.executables[0])

    def process_names(self):
        """What the dynamic linker may call the target."""
        return {os.path.basename(self.target()), os.path.basename(os.path.realpath(self.target()))}

    def small_command(self, folder):
        """Starts the target and ends at once."""
        raise NotImplementedError

    def prepare(self, shared, scale):
        """Makes the input that all runs share."""

    def run(self, run):
        """Does the job; returns the output to compare."""
        raise NotImplementedError
