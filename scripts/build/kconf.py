"""The configuration tool behind the Makefile's targets: kconfiglib, made strict.

Called as: python3 -I -B kconf.py [-q] COMMAND [ARGUMENT...], with these in the environment:
  srctree         folder of the top Kconfig
  KCONFIG_CONFIG  absolute path of .config
Kconfiglib itself only warns about a wrong value and then uses another one. Here every wrong value is an error, told in one
line that names the symbol, the value and what is allowed.
"""
import difflib
import os
import random
import re
import sys

for name in ("CONFIG_", "KCONFIG_CONFIG_HEADER", "KCONFIG_AUTOHEADER_HEADER", "KCONFIG_WARN_UNDEF", "MENUCONFIG_STYLE_"):
    os.environ.pop(name, None)
try:
    import kconfiglib
    from kconfiglib import BOOL, INT, STRING, Kconfig, Symbol, expr_str, expr_value
except ImportError:
    sys.exit("python3 has no kconfiglib: install the package python3-kconfiglib")

KNOWN_TYPES = {BOOL: "bool", INT: "int", STRING: "string"}
DECIMAL = r"-?(0|[1-9][0-9]*)"
INT_MAX = 2**31 - 1
quiet = sys.argv[1:2] == ["-q"]


class Wrong(Exception):
    """What is wrong, in one line."""


# ---- what is allowed -------------------------------------------------------------------------------------------------


def help_of(sym):
    return " ".join(" ".join(node.help.split()) for node in sym.nodes if node.help)


def is_power_of_two_symbol(sym):
    return "Must be a power of two." in help_of(sym)


def multiple_of(sym):
    found = re.search(r"Must be a multiple of (\d+)\.", help_of(sym))
    return int(found.group(1)) if found else 1


def pattern_of(sym):
    found = re.search(r"Must match (\S+)\.(?: |$)", help_of(sym))
    return found.group(1) if found else None


def active_range(sym):
    for low, high, condition in sym.ranges:
        if expr_value(condition):
            return int(low.str_value), int(high.str_value)
    return None


def allowed(sym):
    """What a value of this symbol may be, in words."""
    if sym.type == BOOL:
        return "y or n"
    if sym.type == STRING:
        return "a text in double quotes" + (" that matches " + pattern_of(sym) if pattern_of(sym) else "")
    bounds = active_range(sym)
    words = "{}..{}".format(*bounds) if bounds else "a whole number"
    if is_power_of_two_symbol(sym):
        words += ", a power of two"
    if multiple_of(sym) != 1:
        words += ", a multiple of {}".format(multiple_of(sym))
    return words


def int_is_allowed(sym, value):
    bounds = active_range(sym)
    if bounds and not bounds[0] <= value <= bounds[1]:
        return False
    if is_power_of_two_symbol(sym) and (value <= 0 or value & (value - 1)):
        return False
    return value % multiple_of(sym) == 0


# ---- reading a configuration file ------------------------------------------------------------------------------------


def shown(filename):
    """The name of a file as the user knows it: relative to where he stands, if that is shorter."""
    relative = os.path.relpath(filename)
    return filename if relative.startswith("..") else relative


def read_lines(filename):
    try:
        with open(filename, "rb") as file:
            text = file.read()
    except OSError as error:
        raise Wrong("{}: {}".format(shown(filename), error.strerror))
    try:
        return text.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        number = text.count(b"\n", 0, error.start) + 1
        raise Wrong("{}:{}: malformed line: a byte that is not ASCII".format(shown(filename), number))


def line_problems(kconf, filename):
    """Problems that can be seen in the text of a configuration file, without evaluating dependencies."""
    seen = {}
    chosen = {}
    for number, line in enumerate(read_lines(filename), 1):
        where = "{}:{}: ".format(shown(filename), number)
        unset = re.fullmatch(r"# CONFIG_(\w+) is not set", line)
        assigned = re.fullmatch(r"CONFIG_(\w+)=(.*)", line)
        if not (unset or assigned) or not line.isprintable():
            if line and (not line.isprintable() or not line.startswith("#") or re.match(r"#+\s*CONFIG_\w+ is not set", line)):
                yield where + "malformed line {!r}: neither CONFIG_<symbol>=<value> nor a comment".format(line)
            continue
        name = (unset or assigned).group(1)
        value = "n" if unset else assigned.group(2)
        sym = kconf.syms.get(name)
        if sym is None or not sym.nodes:
            near = difflib.get_close_matches(name, [sym.name for sym in kconf.unique_defined_syms], 1)
            yield where + "CONFIG_{}={}: unknown symbol{}".format(
                name, value, ", did you mean CONFIG_{}?".format(near[0]) if near else "; `make olddefconfig` drops it"
            )
            continue
        if name in seen:
            yield where + "CONFIG_{}={}: set twice, already to {} in line {}; allowed: once".format(
                name, value, seen[name][0], seen[name][1]
            )
            continue
        seen[name] = value, number
        what = where + "CONFIG_{}={}: ".format(name, value)
        if sym.type == BOOL:
            if value not in ("y", "n"):
                yield what + "not a bool; allowed: y or n"
        elif unset:
            yield where + "CONFIG_{} is not set: not a bool; allowed: {}".format(name, allowed(sym))
        elif sym.type == INT:
            if not re.fullmatch(DECIMAL, value):
                yield what + "not a plain decimal number; allowed: " + allowed(sym)
        elif not re.fullmatch(r'"(?:[^"\\]|\\.)*"', value):
            yield what + "not a text in double quotes; allowed: " + allowed(sym)
        if sym.choice and value == "y":
            first = chosen.setdefault(sym.choice.name, sym.name)
            if first != sym.name:
                yield what + "CONFIG_{} is set, too; allowed: one of {}".format(
                    first, ", ".join(member.name for member in sym.choice.syms)
                )
    for choice in kconf.unique_choices:
        if choice.name not in chosen and all(sym.name in seen for sym in choice.syms):
            yield "{}: CONFIG_{}=n: nothing is set in the choice {}; allowed: one of {}".format(
                shown(filename), choice.syms[0].name, choice.name, ", ".join(sym.name for sym in choice.syms)
            )


def value_problems(kconf, filename):
    """Problems that show once all values are known: ranges, dependencies, and whatever else makes a value come out other
    than it was written. Each with its symbol."""
    for sym in kconf.unique_defined_syms:
        written = sym.user_value
        if written is None:
            continue
        if sym.type == BOOL:
            written = "ny"[bool(written)]
        what = "{}: CONFIG_{}={}: ".format(shown(filename), sym.name, written)
        if sym.visibility == 0:
            if written != "n":
                needed = expr_str(sym.direct_dep)
                reason = "it has no prompt" if needed == "y" else "it needs " + needed
                yield sym, what + "has no effect, {}; allowed: nothing (make olddefconfig drops the line)".format(reason)
        elif sym.type == INT and not (re.fullmatch(DECIMAL, written) and int_is_allowed(sym, int(written))):
            yield sym, what + "out of range; allowed: " + allowed(sym)
        elif sym.type == STRING and pattern_of(sym) and not re.fullmatch(pattern_of(sym), written):
            yield sym, what + "wrong text; allowed: " + allowed(sym)
        elif not sym.choice and sym.str_value != written:
            yield sym, what + "comes out as {}; allowed: {}".format(sym.str_value, allowed(sym))


def raise_first(problems):
    problems = list(problems)
    if problems:
        more = " (and {} more)".format(len(problems) - 1) if len(problems) > 1 else ""
        raise Wrong(problems[0] + more)


def load(kconf, filename, replace=True, strict=True):
    """Reads a file into kconf. Strict: raises Wrong; otherwise says what is dropped, and drops it."""
    del kconf.warnings[:]
    problems = list(line_problems(kconf, filename))
    if strict:
        raise_first(problems)
    kconf.load_config(filename, replace)
    if not strict:
        for sym, problem in list(value_problems(kconf, filename)):
            problems.append(problem)
            sym.unset_value()
        for problem in problems:
            print("dropped: " + problem, file=sys.stderr)
        return
    raise_first(problem for _, problem in value_problems(kconf, filename))
    raise_first("{}: {}".format(shown(filename), " ".join(warning.split())) for warning in kconf.warnings)


def check_kconfig(kconf):
    """Mistakes in the Kconfig files themselves, for whoever adds a symbol."""
    for sym in kconf.unique_defined_syms:
        sym.str_value  # warns about a default that is out of range
    raise_first(" ".join(warning.split()) for warning in kconf.warnings)
    for sym in kconf.unique_defined_syms:
        what = "{}:{}: {}: ".format(sym.nodes[0].filename, sym.nodes[0].linenr, sym.name)
        if sym.orig_type not in KNOWN_TYPES:
            raise Wrong(what + "only bool, int and string are supported")
        if sym.type == INT and not sym.ranges:
            raise Wrong(what + "an int needs a range")
        if sym.type == INT and not sym.defaults:
            raise Wrong(what + "an int needs a default")
        for low, high, _ in sym.ranges:
            if not int(low.str_value) <= int(high.str_value) <= INT_MAX:
                raise Wrong(what + "the range is empty or beyond {}".format(INT_MAX))
        if sym.type == INT and sym.visibility and not int_is_allowed(sym, int(sym.str_value)):
            raise Wrong(what + "the default {} is not allowed: {}".format(sym.str_value, allowed(sym)))
    style = os.environ.get("KCONFIG_STYLE")
    problems = list(style_problems(kconf)) if style else []
    if style == "error":
        raise_first(problems)
    if problems:
        print(";; ".join("warning: " + problem for problem in problems))


def style_problems(kconf):
    """What W=c looks for: what a user of the configuration would miss."""
    for sym in kconf.unique_defined_syms:
        what = "{}:{}: {}: ".format(sym.nodes[0].filename, sym.nodes[0].linenr, sym.name)
        if not sym.nodes[0].prompt:
            continue
        if not help_of(sym):
            yield what + "no help text"
        elif sym.type == INT and "Cost: " not in help_of(sym):
            yield what + "the help text does not say `Cost: ...`"
        unit = r"\((blocks|entries|arenas|KiB|MiB|GiB|ms|s|percent|bytes)\)$"
        if sym.type == INT and not re.search(unit, sym.nodes[0].prompt[0]) and not re.search("^(Number|A count) ", help_of(sym)):
            yield what + "no unit at the end of the prompt, and the help text does not begin with `Number of`"


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_if_changed(filename, text):
    try:
        with open(filename) as file:
            if file.read() == text:
                return False
    except (OSError, UnicodeDecodeError):
        pass
    os.makedirs(os.path.dirname(filename) or ".", exist_ok=True)
    temporary = "{}.{}.tmp".format(filename, os.getpid())
    with open(temporary, "w") as file:
        file.write(text)
    os.replace(temporary, filename)
    return True


def config_text(kconf):
    return kconf._config_contents("# Written by the configuration targets, see `make help`. Values may be edited by hand.\n")


def write_config(kconf, config):
    """Writes .config, and says so. The file is left alone when it would not change."""
    changed = write_if_changed(config, config_text(kconf))
    if quiet:
        return
    if changed:
        print("configuration written to " + shown(config))
    else:
        print("no change to " + shown(config))


def header_value(sym):
    if sym.type == BOOL:
        return "1" if sym.str_value == "y" else "0"
    if sym.type == INT:
        return sym.str_value or "0"
    return '"' + kconfiglib.escape(sym.str_value) + '"'


def make_value(sym):
    return sym.str_value.replace("$", "$$").replace("#", "\\#")


def sync(kconf, config):
    """Brings what the build reads up to date with .config:
      include/generated/autoconf.h   each symbol for the compiler
      include/config/auto.conf       each symbol for make
      include/config/<symbol>        a file that is touched when the symbol changes; objects depend on it
      include/config/kconfig.files   the Kconfig files
      include/config/seen.config     .config as it was read; written last, so that an interrupted run is repeated
    """
    objtree = os.environ["objtree"]
    folder = os.path.join(objtree, "include/config")
    os.makedirs(folder, exist_ok=True)
    old = {}
    try:
        with open(os.path.join(folder, "values")) as file:
            old = dict(line.rstrip("\n").split(" ", 1) for line in file if " " in line)
    except OSError:
        pass
    new = {sym.name: header_value(sym) for sym in kconf.unique_defined_syms}
    write_if_changed(
        os.path.join(objtree, "include/generated/autoconf.h"),
        "// Generated from .config. Each symbol is defined; a number whose dependencies are not met is 0.\n#pragma once\n"
        + "".join("#define CONFIG_{} {}\n".format(name, value) for name, value in new.items()),
    )
    for name, value in new.items():
        if old.get(name) != value or not os.path.exists(os.path.join(folder, name)):
            with open(os.path.join(folder, name), "w"):
                pass
    for name in old.keys() - new.keys():
        try:
            os.remove(os.path.join(folder, name))
        except OSError:
            pass
    write_if_changed(os.path.join(folder, "values"), "".join("{} {}\n".format(*item) for item in new.items()))
    write_if_changed(
        os.path.join(folder, "kconfig.files"),
        "".join(os.path.join(os.environ["srctree"], name) + "\n" for name in kconf.kconfig_filenames),
    )
    with open(os.path.join(folder, "auto.conf"), "w") as file:
        file.write("# Generated from .config.\n")
        for sym in kconf.unique_defined_syms:
            file.write("CONFIG_{} := {}\n".format(sym.name, make_value(sym)))
    with open(config) as file:
        seen = file.read()
    with open(os.path.join(folder, "seen.config"), "w") as file:
        file.write(seen)


# ---- the commands ----------------------------------------------------------------------------------------------------


def randomize(kconf, seed):
    """Gives each symbol a random allowed value. The order is that of the Kconfig files, so that what others depend on is
    decided first."""
    dice = random.Random(seed)
    for node in kconf.node_iter(unique_syms=True):
        item = node.item
        if isinstance(item, kconfiglib.Choice):
            dice.choice([sym for sym in item.syms if sym.visibility]).set_value(2)
        if not isinstance(item, Symbol) or not item.visibility or item.choice:
            continue
        if item.type == BOOL:
            item.set_value(dice.choice((0, 2)))
        elif item.type == INT:
            low, high = active_range(item)
            if is_power_of_two_symbol(item):
                values = [1 << bit for bit in range(32) if low <= 1 << bit <= high]
                item.set_value(str(dice.choice(values)))
                continue
            step = multiple_of(item)
            first, last = -(-low // step), high // step
            kind = dice.random()
            if kind < 0.15:
                value = first
            elif kind < 0.3:
                value = last
            elif kind < 0.5:
                value = min(max(int(item.str_value) // step, first), last)
            else:  # evenly over the orders of magnitude
                width = dice.randint(0, (last - first).bit_length())
                value = min(first + dice.randrange(1 << width), last)
            item.set_value(str(value * step))


def all_bools(kconf, value):
    for sym in kconf.unique_defined_syms:
        if sym.type == BOOL and not sym.choice:
            sym.set_value(value)


def load_if_there(kconf, config, strict=False):
    if os.path.exists(config):
        load(kconf, config, strict=strict)


def new_symbols(kconf):
    for node in kconf.node_iter(unique_syms=True):
        sym = node.item
        if isinstance(sym, Symbol) and sym.visibility and sym.user_value is None:
            if not sym.choice:
                yield sym
            elif sym.choice.selection is sym and all(member.user_value is None for member in sym.choice.syms):
                yield sym


def main():
    command, *arguments = sys.argv[2:] if quiet else sys.argv[1:]
    config = os.environ["KCONFIG_CONFIG"]
    kconf = Kconfig("Kconfig", warn_to_stderr=False)
    kconf.warn_assign_override = kconf.warn_assign_redun = False
    check_kconfig(kconf)

    if command == "sync":
        load(kconf, config)
        sync(kconf, config)
    elif command == "check":
        load(kconf, arguments[0])
    elif command == "defconfig":
        load(kconf, arguments[0])
        for fragment in arguments[1:]:
            load(kconf, fragment, replace=False)
        write_config(kconf, config)
    elif command == "merge":
        load(kconf, config)
        load(kconf, arguments[0], replace=False)
        write_config(kconf, config)
    elif command == "olddefconfig":
        load_if_there(kconf, config)
        write_config(kconf, config)
    elif command == "oldconfig":
        import oldconfig

        load_if_there(kconf, config)
        for node in kconf.node_iter():
            oldconfig.oldconfig(node)
        write_config(kconf, config)
    elif command == "savedefconfig":
        load(kconf, config)
        target = os.path.join(os.environ["objtree"], "defconfig")
        kconf.write_min_config(target, header="")
        print("minimal configuration written to " + shown(target))
    elif command == "listnewconfig":
        load_if_there(kconf, config)
        for sym in new_symbols(kconf):
            print(sym.config_string, end="")
    elif command == "alldefconfig":
        write_config(kconf, config)
    elif command in ("allyesconfig", "allnoconfig"):
        all_bools(kconf, 2 if command == "allyesconfig" else 0)
        write_config(kconf, config)
    elif command == "randconfig":
        seed = os.environ.get("KCONFIG_SEED") or str(random.SystemRandom().randrange(1 << 32))
        try:
            seed = int(seed, 0)
        except ValueError:
            raise Wrong("KCONFIG_SEED={}: not a number".format(seed))
        print("KCONFIG_SEED={}".format(seed))
        randomize(kconf, seed)
        raise_first(problem for _, problem in value_problems(kconf, config))
        write_config(kconf, config)
    elif command in ("menuconfig", "guiconfig"):
        if command == "menuconfig":
            import menuconfig as interface
        else:
            try:
                import guiconfig as interface
            except ImportError:
                raise Wrong("guiconfig needs tkinter: install the package python3-tk, or use menuconfig")
        load_if_there(kconf, config)  # says what will be dropped; the interface loads again
        interface.menuconfig(kconf)
    else:
        raise Wrong("unknown command " + command)


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(str(wrong))
    except kconfiglib.KconfigError as error:
        sys.exit(" ".join(str(error).split()))
    except (KeyboardInterrupt, EOFError):
        sys.exit("interrupted; nothing written")
