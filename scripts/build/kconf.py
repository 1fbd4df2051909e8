"""The configuration tool behind the Makefile's targets: kconfiglib, made strict by strict.py.

Called as: python3 -I -B kconf.py [-q] COMMAND [ARGUMENT...], with these in the environment:
  srctree         folder of the top Kconfig
  KCONFIG_CONFIG  absolute path of .config
"""
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from strict import (Wrong, active_range, check_kconfig, is_power_of_two_symbol, load, multiple_of, raise_first, shown,
                    value_problems)

import kconfiglib
from kconfiglib import BOOL, INT, Kconfig, Symbol

quiet = sys.argv[1:2] == ["-q"]


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_if_changed(filename, text):
    try:
        with open(filename) as file:
            if file.read() == text:
                return False
    except (OSError, UnicodeDecodeError):
        pass
    os.makedirs(os.path.dirname(filename) or ".", exist_ok=True)
    if os.path.isdir(filename):  # asked before there is a file beside it
        raise Wrong("{}: is a folder".format(shown(filename)))
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


def edit(kconf, config, command):
    """Runs an interface. Where it cannot be shown is asked before it starts: it would end with a traceback."""
    if command == "menuconfig":
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise Wrong("menuconfig needs a terminal: edit .config instead, or use the targets that `make help` lists")
        import curses

        try:
            curses.setupterm()
        except curses.error:
            raise Wrong("menuconfig does not know the terminal TERM={}".format(os.environ.get("TERM", "")))
        import menuconfig as interface
    else:
        try:
            import tkinter

            tkinter.Tk().destroy()
            import guiconfig as interface
        except ImportError:
            raise Wrong("guiconfig needs tkinter: install the package python3-tk, or use menuconfig")
        except tkinter.TclError as error:
            raise Wrong("guiconfig needs a display ({}): use menuconfig".format(error))
    load_if_there(kconf, config)  # says what will be dropped; the interface loads again
    interface.menuconfig(kconf)


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
        edit(kconf, config, command)
    else:
        raise Wrong("unknown command " + command)


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(str(wrong))
    except kconfiglib.KconfigError as error:
        sys.exit(" ".join(str(error).split()))
    except OSError as error:
        sys.exit("{}: {}".format(shown(error.filename or ""), error.strerror))
    except (KeyboardInterrupt, EOFError):
        sys.exit("interrupted; nothing written")
