"""What can be tuned: symbols of Kconfig with the values that they may have there."""
import os
import sys

import subject
from subject import SRCTREE, Wrong

os.environ["srctree"] = str(SRCTREE)
sys.path.insert(0, str(SRCTREE / "scripts/build"))

import kconf as configuring  # noqa: E402
import strict  # noqa: E402
from kconfiglib import BOOL, INT, Choice, Kconfig, Symbol  # noqa: E402

# What costs no correctness and no diagnostics, and shows in speed or memory.
TUNABLE = (
    "HZ3_REFILL_BATCH", "HZ3_REFILL_KIB", "HZ3_CARVE_KIB", "HZ3_BIN_LIMIT_BLOCKS", "HZ3_BIN_FIRST_KIB", "HZ3_BIN_LIMIT_KIB",
    "HZ3_DEPOT_KIB", "HZ3_REMOTE", "HZ3_REMOTE_RING_SLOTS", "HZ3_REMOTE_FLUSH_BATCH", "HZ3_REMOTE_FLUSH_KIB", "HZ3_PURGE_DECAY_MS",
    "HZ3_PURGE_RESERVE_MIB", "HZ3_SMALL_RUN_KIB", "HZ3_SUB4K_RUN_KIB", "HZ3_MEDIUM_RUN_KIB")


class Space:
    """`base` are the files of the configuration that a fragment will be laid upon, `on_top` those of the start, laid on it.
    A point is {symbol or choice: value}, with the symbols of this space. Raises Wrong."""

    def __init__(self, base, on_top, names):
        self.kconf = Kconfig("Kconfig", warn_to_stderr=False)
        self.kconf.warn_assign_override = self.kconf.warn_assign_redun = False
        self.base, self.files = list(base), [*base, *on_top]
        self.items = {name: self.item(name) for name in names}
        self.read(self.base)
        self.of_base = self.values()
        self.read(self.files)
        self.start = {name: self.value_of(item) for name, item in self.items.items()}
        self.ladders = {name: ladder(item) for name, item in self.items.items()}

    def item(self, name):
        name = name.removeprefix("CONFIG_")
        found = self.kconf.named_choices.get(name) or self.kconf.syms.get(name)
        if found is None or not found.nodes:
            raise Wrong("'{}': Kconfig has no such symbol".format(name))
        if isinstance(found, Symbol) and (found.choice or found.type not in (BOOL, INT)):
            raise Wrong("'{}': {}".format(name, "name its choice, {}".format(found.choice.name) if found.choice else "a text is not tuned"))
        return found

    def read(self, files):
        try:
            for number, path in enumerate(files):
                strict.load(self.kconf, str(path), replace=number == 0)
        except strict.Wrong as wrong:
            raise Wrong(str(wrong))

    @staticmethod
    def value_of(item):
        return item.selection.name if isinstance(item, Choice) else item.str_value

    def values(self):
        """Of all symbols, as a configuration file has them."""
        return {sym.name: sym.str_value for sym in self.kconf.unique_defined_syms if sym.str_value}

    def apply(self, point):
        """Brings Kconfig to a point. False where one of its values is not possible beside the others."""
        self.read(self.files)
        # In the order of the Kconfig files: what others depend on comes first.
        order = [node.item for node in self.kconf.node_iter(unique_syms=True)]
        for item in sorted(self.items.values(), key=order.index):
            value = point[item.name]
            if isinstance(item, Choice):
                self.kconf.syms[value].set_value(2)
            elif item.visibility:
                item.set_value(value)
            else:
                item.unset_value()
        return not list(strict.value_problems(self.kconf, "a point"))

    def settle(self, point):
        """The same point with the start's values for symbols that have none beside the others; None where it is not possible."""
        if not self.apply(point):
            return None
        return {name: point[name] if item.visibility else self.start[name] for name, item in self.items.items()}

    def config(self, point):
        """The resolved configuration of a point that is possible, as the text of a .config."""
        self.apply(point)
        return configuring.config_text(self.kconf)

    def fragment(self, point):
        """The lines by which a point differs from the base, for a fragment."""
        self.apply(point)
        for sym in self.kconf.unique_defined_syms:
            if sym.str_value and sym.str_value != self.of_base.get(sym.name) and sym.visibility and sym.config_string:
                yield sym.config_string.rstrip("\n")


def ladder(item):
    """The values that are tried, in order: for a number each doubling within its range, and its ends."""
    if isinstance(item, Choice):
        return [sym.name for sym in item.syms]
    if item.type == BOOL:
        return ["n", "y"]
    # What depends on another symbol has no range while that is off: then all that are ever possible.
    bounds = strict.active_range(item) or (int(item.ranges[-1][0].str_value), int(item.ranges[-1][1].str_value))
    found = {bounds[0], bounds[1]} | {1 << bit for bit in range(32) if bounds[0] <= 1 << bit <= bounds[1]}
    return [str(value) for value in sorted(found) if strict.int_is_allowed(item, value)]


def base_files(text):
    """The files of `defconfig[+fragment...]`."""
    files = [subject.file_of(part, text) for part in text.split("+")]
    if not subject.is_base(files[0]):
        raise Wrong("'{}': expected a defconfig first".format(text))
    return files
