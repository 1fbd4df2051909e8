"""Kconfig made strict: what a value may be, and what is wrong with a configuration file or with the Kconfig files.

Kconfiglib itself only warns about a wrong value and then uses another one. Here every wrong value is an error, told in one
line that names the symbol, the value and what is allowed.
"""
import difflib
import os
import re
import sys

for name in ("CONFIG_", "KCONFIG_CONFIG_HEADER", "KCONFIG_AUTOHEADER_HEADER", "KCONFIG_WARN_UNDEF", "MENUCONFIG_STYLE_"):
    os.environ.pop(name, None)
try:
    from kconfiglib import BOOL, INT, STRING, expr_str, expr_value
except ImportError:
    sys.exit("python3 has no kconfiglib: install the package python3-kconfiglib")

KNOWN_TYPES = {BOOL: "bool", INT: "int", STRING: "string"}
DECIMAL = r"-?(0|[1-9][0-9]*)"
INT_MAX = 2**31 - 1


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
    """Reads a file into kconf. Strict: raises Wrong; otherwise says what is wrong, and drops it; of what is set twice the last counts."""
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
            print("repaired: " + problem, file=sys.stderr)
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
